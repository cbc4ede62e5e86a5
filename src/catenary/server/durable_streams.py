"""Durable Streams: adds their endpoint to the clients' port.

Source: docs/durable_streams.md (anycable). Knows: options, the engine, the transport. Does not know: what a read does.
"""

import time
from typing import Final

import msgspec

from catenary.auth.keys import API_PHRASE, WRITE_PHRASE, BearerKey, derived_key
from catenary.auth.streams import StreamNames
from catenary.broker.stream_log import KEPT_EMPTY
from catenary.config.effective import Keys
from catenary.edge.deadlines import Deadlines
from catenary.node.background import BackgroundTasks
from catenary.ports import StreamRecords
from catenary.server import replaced_values
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.engines import longest_history_s
from catenary.server.http_routes import announce
from catenary.server.ports import PortSpec
from catenary.server.pusher import private_streams
from catenary.server.shutdown_phases import FLUSH_DISCONNECTS
from catenary.transports.durable_stream import ReadServices
from catenary.transports.durable_stream_endpoint import DurableStreamEndpoint
from catenary.transports.durable_stream_pages import Storage
from catenary.transports.durable_stream_requests import (
    DurableStreamRequests,
    StreamPathRules,
    WriteAccess,
)
from catenary.transports.durable_stream_writes import MAX_BODY_BYTES, WriteServices
from catenary.transports.stream_tails import Tails

SHORTEST_KEPT_S: Final = 60
"""A stream without a TTL is kept for ten times the TTL of messages, but at least for this time."""


def add_durable_streams(build: ServerBuild, main: PortSpec, clients: ClientEndpoints) -> None:
    """The endpoint of all streams, if the options ask for it."""
    options, ds = build.options, build.options.ds
    if not ds.enabled:
        return
    path = ds.path.rstrip("/")
    announce(build, options.server.port, "durable streams", "http", f"{path}/*")
    key = build.keys.streams
    names = StreamNames(
        replaced_values.signatures(build, lambda found: found.streams),
        is_public=options.streams.public,
        reserved=private_streams(options),
    )
    if key is None and not options.streams.public:
        build.announcements.append(
            "No durable stream can be read: expected public_streams, or streams_secret for signed names"
        )
    rules = msgspec.structs.replace(clients.rules(), transport="durable_streams")
    requests = DurableStreamRequests(
        clients.admission(rules),
        names,
        replaced_values.origins(build, lambda new: new.server.allowed_origins),
        StreamPathRules(
            prefix=path,
            max_name_size=options.limits.max_stream_name_size,
            token_header=rules.proxied.token_header,
            is_shared=ds.skip_auth or (options.access.noauth and not options.jwt.enforce),
        ),
        _write_access(build) if ds.write else None,
    )
    limits = clients.websocket_limits()
    background = BackgroundTasks()
    build.shutdown.add(FLUSH_DISCONNECTS, background.wait)
    kept_s = float(max(longest_history_s(build) * KEPT_EMPTY, SHORTEST_KEPT_S))
    records = clients.records if ds.write else None
    endpoint = DurableStreamEndpoint(
        ReadServices(
            node=clients.node,
            encoders=clients.encoders,
            storage=Storage(
                history=clients.history,
                records=records,
                kept_s=kept_s,
                clock=time.time,
                background=background,
            ),
            tails=Tails(clients.hub, may_change=records is not None),
            requests=requests,
            counters=build.counters,
            refusals=clients.refusals,
            polls=Deadlines(ds.poll_interval_s, time.monotonic),
            events=Deadlines(ds.sse_ttl_s, time.monotonic),
            clock=time.time,
            skip_auth=ds.skip_auth,
            high_water=limits.high_water,
            close_timeout_s=limits.close_timeout_s,
        ),
        None if records is None else _writes(clients, records, kept_s),
        clients.publish_limit,
    )
    main.endpoints += [(path, endpoint), (f"{path}/*", endpoint)]


def _write_access(build: ServerBuild) -> WriteAccess:
    """The key of the API, or a name that was signed for writing. A public server without a key lets everybody write the
    streams that are public for readers, too."""
    api = BearerKey("")
    has_key = replaced_values.add_key(build, lambda found: found.api, API_PHRASE, api)
    signatures = replaced_values.signatures(build, _writing_key)
    is_public = build.options.access.public and not has_key
    if is_public:
        build.announcements.append("Durable streams are written without a key")
    return WriteAccess(
        api if has_key else None,
        StreamNames(signatures, is_public=is_public, reserved=private_streams(build.options)),
    )


def _writing_key(found: Keys) -> str | None:
    return None if found.streams is None else derived_key(found.streams, WRITE_PHRASE)


def _writes(clients: ClientEndpoints, records: StreamRecords, kept_s: float) -> WriteServices:
    return WriteServices(
        records=records,
        history=clients.history,
        send=clients.send,
        take_rates=clients.node.publications.take_rates,
        note=clients.node.publications.note_published,
        caught_up=clients.hub.caught_up,
        bodies=clients.bodies(MAX_BODY_BYTES),
        refusals=clients.refusals,
        clock=time.time,
        kept_s=kept_s,
        close_timeout_s=clients.websocket_limits().close_timeout_s,
    )
