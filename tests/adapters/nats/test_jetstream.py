"""JetStream in domains and accounts, on chosen servers, and full; and users with no more permissions than documented."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from catenary.adapters.nats.connection import connect
from catenary.adapters.nats.engine import NatsEngine
from catenary.adapters.nats.jetstream import JetStream
from catenary.adapters.nats.servers import NatsServers
from catenary.config.addresses import server_address
from catenary.errors import BackendError, BackendRefused
from catenary.messages.names import Sid, Stream
from catenary.metrics.counters import Counters
from tests.adapters.nats.listening import node as listening_node
from tests.parts.guide import ROOT
from tests.parts.heart import in_loop
from tests.parts.nats import NatsServer, nats_server
from tests.parts.nats_node import LIMITS, NatsNode, nats_node, until
from tests.parts.ports import free_port

S = Stream("s")


@contextmanager
def configured(tmp_path: Path, configuration: str) -> Iterator[NatsServer]:
    path = tmp_path / "nats.conf"
    path.write_text(configuration)
    with nats_server("-c", str(path), store_dir=tmp_path / "store") as running:
        yield running


async def opened(url: str, jetstream: JetStream) -> NatsEngine:
    """An engine that is up. Raises BackendError with its trouble if it stays down."""
    engine = NatsEngine(
        NatsServers(urls=(url,)), "test.between", LIMITS, Counters(), jetstream=jetstream
    )
    before = engine.trouble
    await engine.start()
    await until(lambda: engine.trouble != before)
    if engine.trouble is not None:
        trouble = engine.trouble
        await engine.close(1)
        raise BackendError(trouble)
    return engine


async def trouble_of(url: str, jetstream: JetStream) -> str:
    with pytest.raises(BackendError) as caught:
        await opened(url, jetstream)
    return str(caught.value)


@in_loop
async def test_a_domain_and_an_api_prefix(tmp_path: Path) -> None:
    with configured(tmp_path, "jetstream: { domain: hub }") as nats:
        for found in (JetStream(domain="hub"), JetStream(api_prefix="$JS.hub.API")):
            engine = await opened(nats.url, found)
            assert engine.kept().epoch
            await engine.close(1)
        assert "no JetStream of the domain edge answers (nats_jetstream_domain)" in (
            await trouble_of(nats.url, JetStream(domain="edge"))
        )
        assert "no JetStream answers at JS.else (nats_jetstream_api_prefix)" in (
            await trouble_of(nats.url, JetStream(api_prefix="JS.else"))
        )


@in_loop
async def test_an_account_without_jetstream(tmp_path: Path) -> None:
    accounts = (
        "accounts { A: { jetstream: enabled, users: [ { user: a, password: p } ] }, "
        "B: { users: [ { user: b, password: p } ] } }"
    )
    with configured(tmp_path, accounts) as nats:
        engine = await opened(nats.url.replace("//", "//a:p@"), JetStream())
        await engine.close(1)
        words = await trouble_of(nats.url.replace("//", "//b:p@"), JetStream())
        assert "enable" in words
        assert "JetStream" in words


@in_loop
async def test_an_account_whose_storage_is_full(tmp_path: Path) -> None:
    accounts = (
        "accounts { A: { jetstream: { max_file: 300K }, users: [ { user: a, password: p } ] } }"
    )
    with configured(tmp_path, accounts) as nats:
        async with nats_node(nats, url=nats.url.replace("//", "//a:p@")) as node:
            with pytest.raises(BackendError) as caught:
                await node.publish(S, *("x" * 10_000 for _ in range(100)))
            assert "the storage or a limit of JetStream is used up" in str(caught.value)
            assert not isinstance(caught.value, BackendRefused), "there may be room again"


@in_loop
async def test_replicas_and_tags_choose_servers(tmp_path: Path) -> None:
    routes = [free_port() for _ in range(3)]
    with ExitStack() as stack:
        servers = []
        for index, route in enumerate(routes):
            path = tmp_path / f"{index}.conf"
            tags = '["ssd", "eu"]' if index < 2 else '["eu"]'
            path.write_text(f"server_tags: {tags}")
            servers.append(
                NatsServer(
                    *("-c", str(path), "--cluster_name", "c", "--server_name", f"server-{index}"),
                    *("--cluster", f"nats://127.0.0.1:{route}"),
                    *("--routes", ",".join(f"nats://127.0.0.1:{other}" for other in routes)),
                    store_dir=tmp_path / str(index),
                )
            )
        for server in servers:
            server.start()
            stack.callback(server.stop)
        engine = NatsEngine(
            NatsServers(urls=(servers[2].url,)),
            "test.between",
            LIMITS,
            Counters(),
            jetstream=JetStream(replicas=2, cluster="c", tags=("ssd",)),
        )
        await engine.start()
        await until(lambda: engine.trouble is None, 30)
        name = engine.kept().name
        reply = await engine.connection.request(f"$JS.API.STREAM.INFO.{name}", b"{}")
        group = json.loads(reply.payload)["cluster"]
        places = {group["leader"], *(each["name"] for each in group.get("replicas", ()))}
        assert places == {"server-0", "server-1"}
        await engine.close(1)
        words = await trouble_of(servers[0].url, JetStream(replicas=3, tags=("ssd",)))
        assert "no suitable peers for placement" in words
        # Without the wish, the stream stays as it is, and may grow.
        engine = await opened(servers[0].url, JetStream(replicas=1, tags=("ssd",)))
        assert engine.kept().replicas == 1
        await engine.close(1)


def documented(number: int) -> str:
    """A configuration of docs/nats.md, with the prefix of the tests."""
    blocks = re.findall(
        r"```\n(accounts .*?)```", (ROOT / "docs" / "nats.md").read_text(), re.DOTALL
    )
    text: str = blocks[number]
    return text.replace("__anycable_internal__.", "test.between.")


@in_loop
async def test_the_documented_permissions_are_enough_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with configured(tmp_path, documented(0)) as nats:
        url = nats.url.replace("//", "//node:node-secret@")
        stranger = NatsNode(nats, url=url)  # with the inbox of everybody
        await stranger.start()
        await until(lambda: "may not subscribe to _INBOX" in (stranger.engine.trouble or ""))
        await stranger.close()
        caplog.clear()
        async with (
            nats_node(nats, url=url, inbox_prefix="_INBOX.catenary") as one,
            nats_node(nats, url=url, inbox_prefix="_INBOX.catenary") as other,
        ):
            await other.listen([S])
            await one.publish(S, "1", "2")
            await until(lambda: other.data(S) == ["1", "2"])
            assert len((await one.history.newest([S])).items()) == 1
            await one.presence.join(S, Sid("1"), "ann", "null")
            assert [each.id for each in await other.presence.members(S)] == ["ann"]
            await one.presence.leave(S, Sid("1"))
            await one.sessions.save(Sid("1"), b"x")
            assert await other.sessions.take(Sid("1")) == b"x"
            one.pubsub.send_to(other.engine.node, b"x")
            await one.engine._check(one.engine.connection)
        assert "ermissions" not in caplog.text


@in_loop
async def test_the_documented_application_publishes_to_one_node_and_reads_nothing(
    tmp_path: Path,
) -> None:
    text = documented(0).replace("__anycable__", "news").replace("_INBOX.catenary", "_INBOX")
    with configured(tmp_path, text) as nats:
        url = nats.url.replace("//", "//node:node-secret@")
        async with listening_node(url, queue="catenary") as node:
            with nats_publisher_as(nats, "app", "app-secret") as app:
                app.sendall(b"PUB news 5\r\nhello\r\nSUB news 1\r\nPING\r\n")
                answer = b""
                while not answer.endswith(b"PONG\r\n"):
                    answer += await asyncio.to_thread(app.recv, 4096)
                assert b"Permissions Violation for Subscription" in answer
            await until(lambda: node.got == [b"hello"])


@contextmanager
def nats_publisher_as(nats: NatsServer, user: str, password: str) -> Iterator[socket.socket]:
    """A bare connection that has logged in, and reads nothing but what it asks for."""
    with socket.create_connection(("127.0.0.1", nats.port), 5) as opened:
        login = json.dumps({"verbose": False, "user": user, "pass": password})
        opened.sendall(f"CONNECT {login}\r\n".encode())
        yield opened


@in_loop
async def test_an_application_in_another_account(tmp_path: Path) -> None:
    with configured(tmp_path, documented(1).replace("__anycable__", "news")) as nats:
        async with listening_node(nats.url.replace("//", "//node:node-secret@")) as node:
            app = await connect(server_address(nats.url.replace("//", "//app:app-secret@")))
            app.publish("news", b"hello")
            async with asyncio.timeout(5):
                await app.flushed()
            await until(lambda: node.got == [b"hello"])
            await app.close(1)
