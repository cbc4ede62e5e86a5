"""Pusher's protocol: its apps, and the endpoint of their clients.

Knows: options, the Pusher modules of every room. Does not know: sockets.
"""

import functools
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from catenary.auth.streams import Reserved
from catenary.config.options import Options
from catenary.config.pusher_apps import PusherApp, pusher_apps
from catenary.edge.admission import AdmissionRules
from catenary.edge.request import Peer, requester_of
from catenary.edge.routes import ChoosingEndpoint, Endpoint
from catenary.errors import RequestRefused
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Sid, Stream
from catenary.ports import Application
from catenary.protocols import pusher_handshake
from catenary.protocols.pusher import PusherCodec, PusherRefusal
from catenary.protocols.pusher_events import needs_signature
from catenary.protocols.pusher_handshake import Refused
from catenary.protocols.pusher_reader import PusherRules
from catenary.protocols.table import ClientProtocol, ProtocolSet
from catenary.routing.pusher import PusherApplication, realm_of
from catenary.routing.refusing import REFUSED, RefusingApplication
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.http_routes import announce
from catenary.server.ports import PortSpec
from catenary.server.replaced_values import follow_secret
from catenary.transports.asgi_edge import AsgiChoosingEndpoint, AsgiEdge, AsgiEndpoint, AsgiPaths
from catenary.transports.asgi_websocket import AsgiWebSocketEndpoint
from catenary.wire.http1 import RequestHead

_E = TypeVar("_E")


def realms(options: Options) -> Mapping[str, Application]:
    """The applications of Pusher clients, by their realms."""
    apps = pusher_apps(options)
    if not apps:
        return {}
    return {REFUSED: RefusingApplication()} | {
        realm_of(app): PusherApplication(app) for app in apps
    }


def private_streams(options: Options) -> Reserved:
    """Whether a stream is that of a channel which clients of Pusher's protocol need a signature for."""
    apps = pusher_apps(options)

    def is_private_stream(stream: Stream) -> bool:
        channels = (app.channel_of(stream) for app in apps)
        return any(channel is not None and needs_signature(channel) for channel in channels)

    return is_private_stream


def follow_app_secret(build: ServerBuild, app: PusherApp, replace: Callable[..., None]) -> None:
    """Calls ``replace`` with the secrets of an app, as :func:`catenary.server.replaced_values.follow_secret`."""

    def secret(options: Options) -> str | None:
        return next((each.secret for each in pusher_apps(options) if each.id == app.id), None)

    follow_secret(build, secret, replace)


def add_pusher(build: ServerBuild, main: PortSpec, clients: ClientEndpoints) -> None:
    """The WebSockets of Pusher clients, at the clients' port."""
    apps = pusher_apps(build.options)
    if not apps:
        return
    for app in apps:
        path = pusher_handshake.PATH.format(key=app.key)
        announce(build, build.options.server.port, f"Pusher app {app.id}", "ws", path)
        if not app.secret:
            build.announcements.append(
                f"Pusher app {app.id} has no secret: public channels only, and its API refuses every request"
            )
    if build.options.broker.adapter in ("", "none"):
        build.announcements.append(
            "Pusher presence and cache channels need a broker: --presets=broker"
        )
    choose: _PusherEndpoints[Endpoint] = _PusherEndpoints(
        apps,
        clients,
        build.options,
        functools.partial(clients.websocket_endpoint, is_limited=False),
    )
    main.endpoints.append((pusher_handshake.PATH, ChoosingEndpoint(choose)))


def with_pusher(build: ServerBuild, edge: AsgiEdge, clients: ClientEndpoints) -> AsgiEdge:
    """The edge of a cable in another ASGI server, with the endpoints of the apps below the path of the cable."""
    apps = pusher_apps(build.options)
    if not apps:
        return edge

    def endpoint(protocols: ProtocolSet, rules: AdmissionRules) -> AsgiEndpoint:
        services, admission = (
            clients.websocket_services(),
            clients.admission(rules, is_limited=False),
        )
        return AsgiWebSocketEndpoint(services, admission, protocols, clients.encoders)

    choose = _PusherEndpoints(apps, clients, build.options, endpoint)
    rows = [(pusher_handshake.PATH, AsgiChoosingEndpoint(choose))]
    websockets = AsgiPaths(rows, edge.endpoints["websocket"])
    endpoints = {**edge.endpoints, "websocket": websockets}
    return msgspec.structs.replace(edge, endpoints=endpoints)


class _PusherEndpoints(Generic[_E]):
    """The endpoint of each app, by its key, and one for each reason to refuse a connection."""

    def __init__(
        self,
        apps: tuple[PusherApp, ...],
        clients: ClientEndpoints,
        options: Options,
        endpoint: Callable[[ProtocolSet, AdmissionRules], _E],
    ) -> None:
        self._clients = clients
        self._max_connections = options.server.max_conn
        self._apps = {app.key: app for app in apps}
        codec = PusherCodec(options.pusher.activity_timeout_s)
        rules = msgspec.structs.replace(
            clients.rules(),
            heartbeat=Heartbeat(options.pusher.activity_timeout_s),
            pong_timeout_s=options.pusher.pong_timeout_s,
            new_sid=new_socket_id,
        )
        self._open: dict[str, _E] = {}
        for app in apps:
            reader = PusherRules(app, clients.counters, time.monotonic)
            follow_app_secret(clients.build, app, reader.signatures.replace)
            protocol = ClientProtocol(
                name="pusher",
                subprotocols=(),
                codec=lambda: codec,
                reader=reader.reader,
                answers_pings=True,
            )
            self._open[app.key] = endpoint(
                ProtocolSet((), fallback=protocol),
                msgspec.structs.replace(rules, realm=realm_of(app)),
            )
        refusing = msgspec.structs.replace(
            rules, heartbeat=Heartbeat(0), realm=REFUSED, max_connections=0
        )
        self._refusing = {
            each: endpoint(ProtocolSet((), fallback=_refusing(each)), refusing)
            for each in pusher_handshake.REFUSALS
        }

    def __call__(self, request: RequestHead, peer: Peer) -> _E:
        """The endpoint that serves a request."""
        key = request.path.rpartition("/")[2]
        refused = self._why_refused(key, request.query) or self._why_limited(request, peer)
        return self._open[key] if refused is None else self._refusing[refused]

    def _why_refused(self, key: str, query: str) -> Refused | None:
        app = self._apps.get(key)
        if app is None:
            return pusher_handshake.UNKNOWN_APP if key else pusher_handshake.NO_PATH
        refused = pusher_handshake.version_refused(query)
        if refused is not None:
            return refused
        if 0 < self._max_connections <= self._clients.counters.open_connections_num:
            return pusher_handshake.OVER_CAPACITY
        if 0 < app.max_connections <= self._clients.node.clients_of(realm_of(app)):
            return pusher_handshake.OVER_QUOTA
        return None

    def _why_limited(self, request: RequestHead, peer: Peer) -> Refused | None:
        """The limits of all endpoints together."""
        try:
            self._clients.connect_limits.check(peer.address)
        except RequestRefused as refused:
            self._clients.refusals.note(refused, requester_of(request, peer))
            return pusher_handshake.OVER_LIMIT
        return None


def _refusing(refused: Refused) -> ClientProtocol:
    codec = PusherRefusal(refused.code, refused.text)
    return ClientProtocol(name="pusher", subprotocols=(), codec=lambda: codec)


def new_socket_id() -> Sid:
    """The id of a Pusher client's session: two numbers of 53 random bits with a dot between them, as Pusher's libraries
    require. No two nodes make the same one, and nobody can guess it."""
    return Sid(f"{secrets.randbits(53)}.{secrets.randbits(53)}")
