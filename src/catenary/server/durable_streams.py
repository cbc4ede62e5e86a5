"""Durable Streams: adds their endpoint to the clients' port.

Source: docs/durable_streams.md (anycable). Knows: options, the engine, the transport. Does not know: what a read does.
"""

import time

from catenary.auth.origins import Origins
from catenary.auth.signatures import Signatures
from catenary.auth.streams import StreamNames
from catenary.edge.deadlines import Deadlines
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.http_routes import announce
from catenary.server.ports import PortSpec
from catenary.server.pusher import private_streams
from catenary.transports.durable_stream import DurableStreamEndpoint, ReadServices
from catenary.transports.durable_stream_requests import DurableStreamRequests, StreamPathRules
from catenary.transports.stream_tails import Tails


def add_durable_streams(build: ServerBuild, main: PortSpec, clients: ClientEndpoints) -> None:
    """The endpoint of all streams, if the options ask for it."""
    options, ds = build.options, build.options.ds
    if not ds.enabled:
        return
    path = ds.path.rstrip("/")
    announce(build, options.server.port, "durable streams", "http", f"{path}/*")
    key = build.keys.streams
    names = StreamNames(
        None if key is None else Signatures(key),
        is_public=options.streams.public,
        reserved=private_streams(options),
    )
    if key is None and not options.streams.public:
        build.announcements.append(
            "No durable stream can be read: expected public_streams, or streams_secret for signed names"
        )
    rules = clients.rules()
    requests = DurableStreamRequests(
        clients.admission(rules),
        names,
        Origins(options.server.allowed_origins),
        StreamPathRules(
            prefix=path,
            max_name_size=options.limits.max_stream_name_size,
            token_header=rules.proxied.token_header,
            is_shared=ds.skip_auth or (options.access.noauth and not options.jwt.enforce),
        ),
    )
    limits = clients.websocket_limits()
    endpoint = DurableStreamEndpoint(
        ReadServices(
            node=clients.node,
            encoders=clients.encoders,
            history=clients.history,
            tails=Tails(clients.hub),
            requests=requests,
            counters=build.counters,
            refusals=clients.refusals,
            polls=Deadlines(ds.poll_interval_s, time.monotonic),
            events=Deadlines(ds.sse_ttl_s, time.monotonic),
            clock=time.time,
            skip_auth=ds.skip_auth,
            high_water=limits.high_water,
            close_timeout_s=limits.close_timeout_s,
        )
    )
    main.endpoints += [(path, endpoint), (f"{path}/*", endpoint)]
