"""Checks of NATS: whether its servers can be reached, carry messages, and have JetStream where it is needed."""

import asyncio
import secrets
from collections.abc import AsyncIterator

from catenary.adapters.nats.access import access_by
from catenary.adapters.nats.connection import NatsConnection, connect
from catenary.adapters.nats.jetstream import JetStream, jetstream_by
from catenary.adapters.nats.pending_requests import NoResponders
from catenary.adapters.nats.store import OLDEST_SERVER
from catenary.config.addresses import server_address
from catenary.config.options import NatsOptions, Options
from catenary.errors import BackendError, ConfigError
from catenary.terminal.doctor.findings import Finding, ok, problem, warning


def uses_nats(options: Options) -> bool:
    """Whether the server connects to a NATS server that it does not embed."""
    adapters = {options.broker.adapter, options.pubsub.adapter, *options.broadcast.adapters}
    is_embedded = options.enats.enabled and options.nats.servers == NatsOptions().servers
    return "nats" in adapters and not is_embedded


async def check_nats(options: Options) -> AsyncIterator[Finding]:
    """Each server, then JetStream."""
    if not uses_nats(options):
        return
    reached: NatsConnection | None = None
    unreached = []
    access = access_by(options.nats)
    for url in options.nats.servers:
        address = server_address(url)
        try:
            connection = await connect(address, access)
        except (BackendError, ConfigError) as error:
            reason = str(error).removeprefix("NATS: ")
            unreached.append(f"the NATS server at {address.url} is unavailable: {reason}")
            continue
        yield ok("nats", f"NATS {connection.info.version} at {address.url} answers")
        if reached is None:
            reached = connection
        else:
            await connection.close(1)
    advice = "start it, or correct nats_servers, the user and password in the URL, nats_creds_path or nats_tls_ca_cert_path"
    for text in unreached:
        yield problem("nats", text, advice) if reached is None else warning("nats", text, advice)
    if reached is None:
        return
    try:
        yield await _round_trip(reached, options.pubsub.nats_channel)
        if options.broker.adapter == "nats":
            yield await _jetstream(reached, jetstream_by(options.nats))
    finally:
        await reached.close(1)


async def _round_trip(connection: NatsConnection, prefix: str) -> Finding:
    arrived = asyncio.Event()
    subject = f"{prefix}.doctor.{secrets.token_hex(4)}"
    try:
        connection.subscribe(subject, lambda *_: arrived.set())
        await connection.published([subject])
        connection.publish(subject, b"")
        async with asyncio.timeout(2):
            await arrived.wait()
    except (BackendError, TimeoutError) as error:
        reason = str(error).removeprefix("NATS: ") or "nothing arrived within 2 s"
        text = f"a message that was published did not come back: {reason}"
        return problem("nats", text, f"allow this user to publish and subscribe to {prefix}.>")
    return ok("nats", "a message that was published came back")


async def _jetstream(connection: NatsConnection, jetstream: JetStream) -> Finding:
    version = tuple(int(part) for part in connection.info.version.split(".")[:2] if part.isdigit())
    if version < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        text = f"NATS {connection.info.version} is too old for broker=nats"
        return problem("nats", text, f"use {oldest} or newer")
    try:
        answer = await connection.request(f"{jetstream.api}.INFO")
    except NoResponders:
        return problem("nats", str(jetstream.missing), "start nats-server with --jetstream")
    except BackendError as error:
        text = f"JetStream does not answer: {error}"
        return problem(
            "nats", text, f"allow this user {jetstream.api}.>, and look at the log of nats-server"
        )
    if b'"error"' in answer.payload:
        text = "this account may not use JetStream"
        return problem("nats", text, "enable JetStream for the account of this user")
    return ok("nats", "JetStream answers")
