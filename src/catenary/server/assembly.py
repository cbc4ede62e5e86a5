"""Builds a server out of its options: the only file that knows every adapter.

Bottom up: counters, hub, pub/sub, application, node, edges. Everything is complete when it is built.
"""

import asyncio
import functools
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.adapters.memory.sessions import LocalSessions
from catenary.adapters.none import NoHistory, NoPresence, NoSessions
from catenary.api.broadcast import BroadcastEndpoint, Broadcasts
from catenary.api.health import health
from catenary.api.intake import IntakeRules
from catenary.auth.keys import BROADCAST_PHRASE, RPC_PHRASE, derived_key
from catenary.auth.origins import Origins
from catenary.config.effective import Key, keys
from catenary.config.options import Options
from catenary.errors import ConfigError, MissingExtra
from catenary.messages.heartbeat import Heartbeat
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Disconnector
from catenary.node.encoder import Encoder
from catenary.node.hub import Hub
from catenary.node.identity import everybody
from catenary.node.node import Node
from catenary.node.pinger import Pinger
from catenary.node.router import Identify, Router
from catenary.ports import Application, History, Presence, SessionCache
from catenary.protocols.actioncable import ActionCableV1
from catenary.rpc.calls import CallLimits
from catenary.rpc.none import NoApplication
from catenary.rpc.tls import Tls
from catenary.server import standalone
from catenary.server.deadlines import Deadlines
from catenary.server.door import HEAD_TIMEOUT_S, BackDoor, CableRules, Door, Entrance
from catenary.server.lifecycle import BACKLOG, Listener, bind
from catenary.server.routes import CablePaths
from catenary.server.ticker import Ticker
from catenary.transports.request import Proxied
from catenary.transports.websocket import WebSocketLimits
from catenary.wire.frames import PING, frame, text_frame

_EXAMPLE: Final = '{"stream":"hello","data":"{\\"text\\":\\"Hello\\"}"}'


class Broker(msgspec.Struct, frozen=True):
    """Where things are kept."""

    history: History
    presence: Presence
    sessions: SessionCache


class Assembly:
    """A server that is ready to run; ``announcements`` say what it serves, and where."""

    def __init__(self, options: Options) -> None:
        """Builds all of it; must be called where the loop runs.

        ``options`` are effective ones. Raises :class:`ConfigError`.
        """
        self._options = options
        self._keys = keys(options)
        self._tokens = standalone.maybe_tokens(options.jwt, self._keys.tokens)
        self.counters = Counters()
        self.start: list[Callable[[], Awaitable[None]]] = []
        self.finish: list[Callable[[float], Awaitable[None]]] = []
        self.announcements: list[str] = []
        self._deadlines = Deadlines(HEAD_TIMEOUT_S, time.monotonic)
        loop = asyncio.get_running_loop()
        hub = Hub(self.counters, loop.call_soon)
        application = self._application()
        disconnector = Disconnector(
            application,
            self.counters,
            rate=options.disconnector.rate,
            backlog=options.disconnector.backlog,
            clock=loop.time,
        )
        broker = self._broker()
        self.node = Node(
            application,
            hub=hub,
            pubsub=LocalPubSub(hub.deliver),
            history=broker.history,
            presence=broker.presence,
            sessions=broker.sessions,
            pinger=Pinger(loop, time.time_ns),
            disconnector=disconnector,
            disconnect_mode=options.disconnector.mode,
            counters=self.counters,
        )
        # The first to finish: their calls need the application, which is closed behind them.
        self.finish[:0] = [self.node.settle, disconnector.drain]
        if options.broker.adapter == "memory":
            self._tick(1, self.node.keep_time)
            self._tick(max(options.broker.presence_ttl_s / 3, 0.1), self.node.touch_present)
        self.listeners = self._listeners()
        if "redis" in options.broadcast.adapters:
            self._listen_to_redis()

    # The broker

    def _broker(self) -> "Broker":
        """What is kept, and where."""
        options = self._options.broker
        if options.adapter != "memory":
            return Broker(NoHistory(), NoPresence(), NoSessions())
        epoch = secrets.token_hex(4)
        self.announcements.append(
            f"Keeping in memory (epoch {epoch}): history of {options.history_limit} messages for "
            f"{options.history_ttl_s} s, sessions for {options.sessions_ttl_s} s, presence for "
            f"{options.presence_ttl_s} s"
        )
        history = LocalHistory(
            limit=options.history_limit,
            ttl_s=options.history_ttl_s,
            epoch=epoch,
            clock=time.time,
        )
        loop = asyncio.get_running_loop()

        def sweep() -> None:
            if history.sweep():
                # More is over than one sweep may take: others have their turn in between.
                loop.call_soon(sweep)

        self._tick(1, sweep)
        return Broker(
            history,
            LocalPresence(ttl_s=options.presence_ttl_s, clock=loop.time),
            LocalSessions(ttl_s=options.sessions_ttl_s, clock=loop.time),
        )

    def _tick(self, interval_s: float, call: Callable[[], object]) -> None:
        ticker = Ticker(interval_s, call)
        self.start.append(ticker.start)
        self.finish.append(ticker.stop)

    # The application

    def _application(self) -> Application:
        options = self._options
        remote = self._remote_application()
        identify: list[Identify] = []
        if self._tokens is not None:
            identify.append(self._tokens.identity)
            self.start += self._tokens.start
            self.finish += self._tokens.finish
        if options.access.noauth:
            identify.append(everybody)
        channels = standalone.channels(options.streams, self._keys)
        self.announcements += standalone.announcements(options, self._keys, self._tokens, channels)
        return Router(remote, channels=channels, identify=identify)

    def _remote_application(self) -> Application:
        match self._options.rpc.implementation:
            case "grpc":
                return self._grpc_application()
            case "http":
                return self._http_application()
            case _:
                return NoApplication()

    def _grpc_application(self) -> Application:
        try:
            from catenary.rpc.grpc import GrpcApplication, MessageSizes
        except ImportError as error:
            raise MissingExtra("rpc_host with gRPC", "grpc") from error
        rpc = self._options.rpc
        application = GrpcApplication(
            rpc.host,
            counters=self.counters,
            limits=self._call_limits(),
            tls=self._tls() if rpc.enable_tls else None,
            sizes=MessageSizes(rpc.max_recv_size_bytes, rpc.max_send_size_bytes),
        )
        self.start.append(application.start)
        self.finish.append(application.close)
        return application

    def _http_application(self) -> Application:
        from catenary.rpc.http import HttpApplication

        rpc = self._options.rpc
        application = HttpApplication(
            rpc.host,
            counters=self.counters,
            limits=self._call_limits(),
            tls=self._tls(),
            key=_text(self._keys.rpc, RPC_PHRASE),
        )
        self.start.append(application.start)
        self.finish.append(application.close)
        return application

    def _call_limits(self) -> CallLimits:
        rpc = self._options.rpc
        return CallLimits(
            concurrency=rpc.concurrency,
            request_timeout_s=rpc.request_timeout_ms / 1000,
            command_timeout_s=rpc.command_timeout_ms / 1000,
        )

    def _tls(self) -> Tls:
        rpc = self._options.rpc
        return Tls(verify=rpc.tls_verify, root_ca=rpc.tls_root_ca)

    # The edges

    def _listeners(self) -> list[Listener]:
        """One for each port: the cable's, and that of HTTP broadcasts where it has its own."""
        options = self._options
        port, path = options.server.port, options.http_broadcast.path
        self._announce(port, "cable", "ws", *options.websocket.paths)
        self._announce(port, "health", "http", options.server.health_path)
        routes = [Route(options.server.health_path, health)]
        if "http" not in options.broadcast.adapters:
            return [self._listener(port, routes, options.websocket.paths, None)]
        broadcasts = self._broadcasts()
        intake = IntakeRules(path=path, broadcasts=broadcasts, watch=self._deadlines)
        publish = [Route(path, BroadcastEndpoint(broadcasts))]
        own_port = options.http_broadcast.port
        self._announce(own_port, "broadcasts", "http", path)
        if own_port == port:
            return [self._listener(port, routes + publish, options.websocket.paths, intake)]
        return [
            self._listener(port, routes, options.websocket.paths, None),
            self._listener(own_port, publish, (), intake),
        ]

    def _listener(
        self,
        port: int,
        routes: Sequence[Route],
        cables: Sequence[str],
        intake: IntakeRules | None,
    ) -> Listener:
        options = self._options
        entrance = Entrance(
            self.node, self._cable_rules(cables), self.counters, self._deadlines, intake
        )
        config = uvicorn.Config(
            Starlette(routes=routes),
            # uvicorn asks for classes, and calls them.
            http=cast("type[asyncio.Protocol]", functools.partial(Door, entrance)),
            ws=cast("type[asyncio.Protocol]", functools.partial(BackDoor, entrance)),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            ssl_certfile=options.server.ssl_cert or None,
            ssl_keyfile=options.server.ssl_key or None,
            # A request that does not end must leave time for what comes behind: Disconnect calls.
            timeout_graceful_shutdown=max(1, options.node.shutdown_timeout_s * 2 // 3),
        )
        try:
            config.load()
        except OSError as error:
            raise ConfigError(
                f"ssl_cert, ssl_key: expected a certificate and its key in PEM: {error}"
            ) from error
        return Listener(config, bind(options.server.host, port))

    def _cable_rules(self, paths: Sequence[str]) -> CableRules:
        options = self._options
        return CableRules(
            paths=CablePaths(paths),
            origins=Origins(options.server.allowed_origins),
            proxied=Proxied(
                options.rpc.proxy_headers,
                options.rpc.proxy_cookies,
                "" if self._tokens is None else self._tokens.header,
            ),
            heartbeat=Heartbeat(
                options.ping.interval_s,
                options.ping.timestamp_precision,
                is_native=options.ping.native,
            ),
            pong_timeout_s=options.ping.pong_timeout_s,
            keeps_sessions=(
                options.broker.adapter == "memory" and options.broker.sessions_ttl_s > 0
            ),
            limits=WebSocketLimits(
                max_message_bytes=options.websocket.max_message_size_bytes,
                max_pending_bytes=options.websocket.max_pending_size_bytes,
                close_timeout_s=options.websocket.write_timeout_s,
            ),
            encoder=Encoder(ActionCableV1(), text_frame, frame(PING, b"")),
            max_connections=options.server.max_conn,
        )

    def _broadcasts(self) -> Broadcasts:
        http = self._options.http_broadcast
        return Broadcasts(
            self.node.publish,
            key=_text(self._keys.broadcast, BROADCAST_PHRASE),
            pages=Origins(http.cors_hosts) if http.cors_headers else None,
        )

    def _listen_to_redis(self) -> None:
        try:
            from catenary.adapters.redis.broadcasts import RedisBroadcasts
            from catenary.adapters.redis.client import RedisAddress
        except ImportError as error:
            raise MissingExtra("broadcast_adapter=redis", "redis") from error
        redis = self._options.redis
        broadcasts = RedisBroadcasts(
            RedisAddress(
                url=redis.url,
                sentinels=redis.sentinels,
                keepalive_s=redis.keepalive_interval_s,
                tls_verify=redis.tls_verify,
                tls_ca_path=redis.tls_ca_cert_path,
                tls_client_cert_path=redis.tls_client_cert_path,
                tls_client_key_path=redis.tls_client_key_path,
            ),
            self._options.broadcast.redis_channel,
            self.node.publish,
            self.counters,
        )
        self.start.append(broadcasts.start)
        self.finish.append(broadcasts.close)

    def _announce(self, port: int, what: str, scheme: str, *paths: str) -> None:
        secure = "s" if self._options.server.ssl_cert else ""
        host = self._options.server.host or "localhost"
        host = f"[{host}]" if ":" in host else host
        for path in paths:
            self.announcements.append(f"Serving {what} at {scheme}{secure}://{host}:{port}{path}")
        if what == "broadcasts" and self._options.access.public:
            url = f"{scheme}{secure}://{host}:{port}{paths[0]}"
            self.announcements.append(f"Try: curl {url} -d '{_EXAMPLE}'")


def _text(key: Key | None, phrase: str) -> str:
    """The key itself; empty where none is asked for."""
    if key is None:
        return ""
    return derived_key(key.text, phrase) if key.derived else key.text
