"""Builds a server out of its options: the only file that knows every adapter.

Bottom up: counters, hub, pub/sub, application, node, edges. Everything is complete when it is built.
"""

import asyncio
import functools
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from catenary.api.access import Access
from catenary.api.broadcast import BroadcastEndpoint, Broadcasts
from catenary.api.health import Readiness, health, with_server_options
from catenary.api.intake import IntakeFallback, IntakeRules
from catenary.api.metrics import Metrics
from catenary.api.reads import ReadEndpoint, history_of, presence_of
from catenary.auth.keys import API_PHRASE, BROADCAST_PHRASE, RPC_PHRASE, key_text
from catenary.auth.origins import Origins
from catenary.codeworkers.pool import CodeWorkerPool
from catenary.config.effective import keys, serves_api
from catenary.config.options import Options
from catenary.config.urls import bracketed
from catenary.edge.admission import Admission, AdmissionRules
from catenary.edge.connection import ClientConnection, Host, Stage
from catenary.edge.deadlines import Deadlines, NoDeadlines
from catenary.edge.handshake_queue import HandshakeQueue
from catenary.edge.http import HostedWebSockets, HttpFallback
from catenary.edge.refusals import Refusals
from catenary.edge.request import Proxied
from catenary.edge.routes import Endpoint, Fallback, RouteTable
from catenary.edge.sniffer import HeadLimits, LateUpgradeSniffer, Port, RequestSniffer
from catenary.errors import ConfigError, MissingExtra
from catenary.logs.rate_limited import LineLimit
from catenary.messages.heartbeat import Heartbeat
from catenary.metrics.counters import Counters
from catenary.metrics.prometheus import exposition
from catenary.node.disconnector import Disconnector
from catenary.node.encoder import Encoders
from catenary.node.hub import Hub
from catenary.node.identity import everybody
from catenary.node.limits import ClientLimits
from catenary.node.node import Node
from catenary.node.pinger import Pinger
from catenary.node.reads import Reads
from catenary.node.resumption import ExpiryRules
from catenary.node.router import Identify, Router
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.ports import Application
from catenary.process import lifecycle
from catenary.process.binding import BACKLOG, ListenAddress, bind
from catenary.process.lifecycle import Listener
from catenary.process.loop_lag import LoopLag
from catenary.process.worker_context import WorkerContext
from catenary.protocols.table import ACTION_CABLE
from catenary.rpc.calls import CallLimits
from catenary.rpc.none import NoApplication
from catenary.rpc.tls import Tls
from catenary.server import engines, publishers, standalone
from catenary.server.engines import Engine, MemoryEngine
from catenary.supervision.service import Supervisor
from catenary.supervision.ticker import Ticker
from catenary.transports.asgi import AsgiEndpoint
from catenary.transports.event_stream import EventStreamEndpoint, StreamLimits, StreamServices
from catenary.transports.hosting import HostedEdge
from catenary.transports.websocket import WebSocketLimits, WebSocketServices
from catenary.transports.websocket_endpoint import WebSocketEndpoint
from catenary.wire.request_memory import RequestMemory

if TYPE_CHECKING:
    from catenary.adapters.nats.embedded import EmbeddedNats
    from catenary.adapters.nats.servers import NatsServers
    from catenary.channels.cable import Cable
    from catenary.server.guest import Guest

_EXAMPLE: Final = '{"stream":"hello","data":"{\\"text\\":\\"Hello\\"}"}'


@dataclass
class PortSpec:
    """What is served at one port; ``where`` is how the first who wants it names it."""

    where: ListenAddress
    routes: list[Route] = field(default_factory=list)
    endpoints: list[tuple[str, Endpoint]] = field(default_factory=list)
    intake: IntakeRules | None = None
    guest: "Guest | None" = None


class Ports:
    """The ports that are wanted, each once, however it is named."""

    def __init__(self) -> None:
        self._specs: dict[tuple[str, int], PortSpec] = {}

    def at(self, where: ListenAddress) -> PortSpec:
        """What is served there."""
        return self._specs.setdefault(where.key, PortSpec(where))

    @property
    def specs(self) -> tuple[PortSpec, ...]:
        """In the order in which they were first wanted."""
        return tuple(self._specs.values())


class Assembly:
    """A server that is ready to run; ``announcements`` say what it serves, and where."""

    def __init__(
        self,
        options: Options,
        worker: WorkerContext | None = None,
        cable: "Cable | None" = None,
        code: str = "",
        *,
        is_hosted: bool = False,
    ) -> None:
        """Builds all of it; must be called where the loop runs.

        ``options`` are effective ones, ``worker`` is set in a worker process, ``cable`` an application in
        this process, ``code`` the name of one (``module:cable``) that runs in code workers; with both, the
        cable is the one by which the pages of ``asgi`` publish and read. What ``is_hosted`` by
        another server does not listen. Raises :class:`ConfigError`.
        """
        self._options = options
        self._cable = cable
        self._worker = worker
        self._keys = keys(options)
        self.counters = Counters()
        self.supervisor = Supervisor(self.counters)
        self._tokens = standalone.maybe_tokens(options.jwt, self._keys.tokens, self.supervisor)
        self.code = self._code_workers(code) if code else None
        self.start: list[Callable[[], Awaitable[None]]] = []
        self.finish: list[Callable[[float], Awaitable[None]]] = []
        self.announcements: list[str] = []
        limits = options.limits
        self._deadlines = Deadlines(limits.handshake_timeout_s, time.monotonic)
        self._memory = RequestMemory(limits.max_pending_requests_size_bytes, self.counters)
        self._encoders = Encoders()
        self._refusals = Refusals(self.counters)
        loop = asyncio.get_running_loop()
        self._turns = Turns(CLIENTS_BUDGET_US, loop.call_soon)
        self._handshake_queue = HandshakeQueue(
            limits.max_waiting_handshakes, self.counters, loop.call_soon
        )
        self._guest = self._maybe_guest()
        self._embedded: EmbeddedNats | None = None
        self._nats_url = self._maybe_embed_nats()
        engine = self._engine = self._chosen_engine()
        self._keeps_sessions = engine.keeps and options.broker.sessions_ttl_s > 0
        self._hub = hub = Hub(self.counters, loop.call_soon, engine.interest)
        application = self._application()
        if self._guest is not None:
            # Behind the cable, whose methods may need what it keeps open.
            self.finish.append(self._guest.stop)
        disconnector = Disconnector(
            application,
            self.counters,
            rate=options.disconnector.rate,
            # The other half is for clients that are connected, or want to be.
            at_once=max(options.rpc.concurrency // 2, 1),
            backlog=options.disconnector.backlog,
            clock=loop.time,
        )
        pubsub = engine.pubsub(hub, self._restored)
        self.start += engine.start
        self.finish += engine.finish
        self.node = Node(
            application,
            hub=hub,
            pubsub=pubsub,
            history=engine.history,
            presence=engine.presence,
            sessions=engine.sessions,
            pinger=Pinger(loop, time.time_ns),
            disconnector=disconnector,
            disconnect_mode=options.disconnector.mode,
            restored_action=self._restored_action(),
            counters=self.counters,
            limits=ClientLimits(
                max_identifier_size=limits.max_identifier_size,
                max_subscriptions=limits.max_subscriptions,
                max_streams=limits.max_streams,
                max_stream_name_size=limits.max_stream_name_size,
                max_state_keys=limits.max_state_keys,
                max_state_size=limits.max_state_size,
            ),
            expiry=self._expiry_rules(),
        )
        self._reads = Reads(engine.history, engine.presence) if engine.keeps else Reads(None, None)
        # The first to finish: their calls need the application, which is closed behind them.
        self.finish[:0] = [self.node.settle, disconnector.drain]
        if engine.keeps:
            self._tick_node()
        self.listeners = [] if is_hosted else self._listeners()
        self._listen_to_publishers()
        if cable is not None:
            performer = self.node if self.code is None else None
            self.start.append(functools.partial(cable.start, self.node, performer, self._reads))
        if self.code is not None:
            self.start.append(functools.partial(self.code.start, self.node, self._reads))
        if self._guest is not None:
            # The last to start: it may publish already.
            self.start.append(self._guest.start)
        self._measure_lag()
        if self._embedded is not None:
            self.finish.append(self._embedded.close)

    # What lies between nodes

    def _chosen_engine(self) -> Engine:
        """What is kept, and where; how publications travel."""
        options = self._options
        engine: Engine
        if options.pubsub.adapter == "redis":
            engine = engines.by_redis(options, self.counters, self.supervisor)
        elif options.pubsub.adapter == "nats":
            engine = engines.by_nats(options, self._nats_servers(), self.counters, self.supervisor)
        elif options.broker.adapter == "memory":
            engine = MemoryEngine(options.broker)
        else:
            engine = Engine()
        self.announcements += engine.announcements
        return engine

    def _maybe_embed_nats(self) -> str:
        """Where the NATS server is that is embedded here or in our parent; empty where none is."""
        if self._worker is not None:
            return self._worker.nats_url
        if not self._options.enats.enabled:
            return ""
        self._embedded = embedded = engines.embedded_nats(
            self._options, self.counters, self.supervisor
        )
        self.start += [embedded.start, embedded.ready]
        return embedded.client_url

    def _nats_servers(self) -> "NatsServers":
        return engines.nats_servers(self._options.nats, self._nats_url)

    def _restored(self) -> None:
        self.node.refresh()

    def _tick_node(self) -> None:
        """The clocks of what a node keeps: a touch comes three times within the time that it lasts."""
        broker = self._options.broker
        self._tick(1, self.node.keep_time)
        self._tick(max(broker.presence_ttl_s / 3, 0.1), self.node.touch_present)
        self._tick(max(broker.sessions_ttl_s / 3, 0.1), self.node.touch_resumable)

    def _tick(self, interval_s: float, call: Callable[[], object]) -> None:
        ticker = Ticker(interval_s, call)
        self.start.append(ticker.start)
        self.finish.insert(0, ticker.stop)

    def _measure_lag(self) -> None:
        lag = LoopLag(self.counters)
        self.start.append(lag.start)
        self.finish.append(lag.stop)

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

    def _expiry_rules(self) -> ExpiryRules:
        if self._tokens is None:
            return ExpiryRules()
        return ExpiryRules(
            shows_token=self._tokens.identity.shows_token,
            may_resume_expired=self._options.jwt.resume_expired,
        )

    def _maybe_guest(self) -> "Guest | None":
        where = self._options.server.asgi
        if not where:
            return None
        from catenary.server.guest import load_guest

        return load_guest(where, self._cable, self.supervisor)

    def _remote_application(self) -> Application:
        if self.code is not None:
            self.finish.append(self.code.close)
        if self._cable is not None:
            self.finish.append(self._cable.stop)
        if self.code is not None:
            self.announcements.append(
                f"The application runs in code workers: {self._options.app.workers}"
            )
            return self.code
        if self._cable is not None:
            self.announcements.append("The application runs in this process")
            return self._cable
        match self._options.rpc.implementation:
            case "grpc":
                return self._grpc_application()
            case "http":
                return self._http_application()
            case _:
                return NoApplication()

    def _code_workers(self, code: str) -> CodeWorkerPool:
        options = self._options
        return CodeWorkerPool(
            (
                *(sys.executable, "-m", "catenary.server.code_worker"),
                *(code, options.log.level, options.log.format),
            ),
            number=options.app.workers,
            patience_s=options.rpc.command_timeout_ms / 1000,
            end_s=options.node.shutdown_timeout_s,
            counters=self.counters,
            supervisor=self.supervisor,
            not_reloaded=options.server.asgi,
        )

    def _restored_action(self) -> str:
        """What is performed on the subscriptions of a resumed session."""
        here = self.code or self._cable
        return self._options.broker.restored_action if here is None else here.restored_action

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
            supervisor=self.supervisor,
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
            key=key_text(self._keys.rpc, RPC_PHRASE),
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
        """One for each port: the cable's, and those of broadcasts and metrics if they have their own."""
        options = self._options
        port, http = options.server.port, options.http_broadcast
        self._announce(port, "cable", "ws", *options.websocket.paths)
        self._announce(port, "health", "http", options.server.health_path)
        self._announce(port, "readiness", "http", options.server.ready_path)
        ports = Ports()
        main = ports.at(ListenAddress(options.server.host, port))
        services = self._services()
        cable = WebSocketEndpoint(
            services,
            self._admission(),
            ACTION_CABLE,
            self._encoders,
            compresses=options.websocket.enable_compression,
        )
        main.endpoints += [(path, cable) for path in options.websocket.paths]
        if options.sse.enabled:
            self._announce(port, "event streams", "http", options.sse.path)
            main.endpoints.append((options.sse.path, self._event_streams(services.limits)))
        main.guest = self._guest
        if self._guest is not None:
            self._announce(port, options.server.asgi, "http", "/")
        main.routes += [
            Route(options.server.health_path, health),
            Route(options.server.ready_path, Readiness(self._trouble)),
        ]
        if "http" in options.broadcast.adapters:
            self._announce(http.port, "broadcasts", "http", http.path)
            broadcasts = self._broadcasts()
            own = ports.at(ListenAddress(options.server.host, http.port, "http_broadcast_port"))
            own.routes.append(Route(http.path, BroadcastEndpoint(broadcasts, self._memory)))
            own.intake = IntakeRules(
                path=http.path,
                broadcasts=broadcasts,
                watch=self._deadlines,
                memory=self._memory,
            )
        if serves_api(options):
            api = options.api
            self._announce(api.port, "API", "http", api.path or "/", host=api.host)
            where = ListenAddress(api.host, api.port, "api_port", "api.host")
            ports.at(where).routes += self._api()
        if options.metrics.http_path:
            where = self._metrics_address()
            self._announce(
                where.port, "metrics", "http", options.metrics.http_path, host=where.host
            )
            route = Route(options.metrics.http_path, Metrics(self._shown_metrics))
            ports.at(where).routes.append(route)
        return [self._listener(each) for each in ports.specs]

    def _trouble(self) -> str | None:
        """Why this node should not be sent clients; None where it may."""
        return self._engine.trouble() or self.supervisor.trouble

    def _metrics_address(self) -> ListenAddress:
        """Each worker shows its own."""
        options = self._options
        host = options.metrics.host or options.server.host
        port = options.metrics.port + (self._worker.number - 1 if self._worker else 0)
        return ListenAddress(host, port, "metrics_port", "metrics_host")

    def _shown_metrics(self) -> str:
        asked = {
            "clients_uniq_num": self._hub.clients_uniq_num,
            "broadcast_streams_num": self._hub.streams_num,
            "mem_sys_bytes": lifecycle.resident_bytes(),
            "suppressed_log_lines_total": LineLimit.suppressed_total,
            "pubsub_trouble_num": int(self._engine.trouble() is not None),
        }
        code = self.code or self._cable
        if code is not None:
            asked |= {
                "app_limited_total": code.limited_total,
                "app_failed_total": code.failed_total,
                "app_slow_total": code.slow_total,
            }
        return exposition(self.counters, asked, self._options.metrics.tags)

    def _listener(self, spec: PortSpec) -> Listener:
        options = self._options
        shared = self._port(spec)
        own = Starlette(routes=spec.routes)
        config = uvicorn.Config(
            with_server_options(own if spec.guest is None else spec.guest.beside(own)),
            http=_protocol(functools.partial(RequestSniffer, shared)),
            ws=_protocol(functools.partial(LateUpgradeSniffer, shared)),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=spec.guest is not None,
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
        if self._worker is not None and spec.where.port in self._worker.sockets:
            sockets = self._worker.listening(spec.where.port)
        else:
            sockets = bind(spec.where)
        lifecycle.find_the_dead(sockets, options.limits.tcp_timeout_s)
        return Listener(config, sockets)

    def _port(self, spec: PortSpec) -> Port:
        """How connections at one port are served, whatever their first request asks for."""
        limits = self._options.limits
        fallback: Fallback = HttpFallback(
            limits.max_header_size_bytes, self._deadlines, self._memory, self.counters
        )
        if spec.intake is not None:
            fallback = IntakeFallback(spec.intake, fallback)
        return Port(
            routes=RouteTable(spec.endpoints),
            fallback=fallback,
            late_fallback=HostedWebSockets(None if spec.guest is None else spec.guest.websockets),
            queue=self._handshake_queue,
            deadlines=self._deadlines,
            memory=self._memory,
            head=HeadLimits(limits.max_header_size_bytes, limits.max_headers),
            counters=self.counters,
            refusals=self._refusals,
        )

    def _admission(self) -> Admission:
        return Admission(self._admission_rules(), self.counters)

    def _admission_rules(self) -> AdmissionRules:
        options = self._options
        return AdmissionRules(
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
            keeps_sessions=self._keeps_sessions,
            max_connections=options.server.max_conn,
        )

    def _services(self) -> WebSocketServices:
        options = self._options
        timeout_s = options.limits.message_timeout_s
        return WebSocketServices(
            self.node,
            WebSocketLimits(
                max_message_bytes=options.websocket.max_message_size_bytes,
                max_pending_bytes=options.websocket.max_pending_size_bytes,
                close_timeout_s=options.websocket.write_timeout_s,
                max_message_rate=options.limits.max_message_rate,
            ),
            self.counters,
            Deadlines(timeout_s, time.monotonic) if timeout_s else NoDeadlines(),
            self._turns,
        )

    def _event_streams(self, limits: WebSocketLimits) -> EventStreamEndpoint:
        options = self._options
        pages = Origins(options.sse.allowed_origins or options.server.allowed_origins)
        services = StreamServices(
            self.node,
            self._encoders,
            StreamLimits(
                max_body_bytes=limits.max_message_bytes,
                high_water=limits.high_water,
                close_timeout_s=limits.close_timeout_s,
            ),
            self.counters,
            self._refusals,
            self._turns,
            self._deadlines,
            self._memory,
        )
        return EventStreamEndpoint(
            services, Admission(self._stream_rules(pages), self.counters), pages
        )

    def _stream_rules(self, pages: Origins) -> AdmissionRules:
        """Nothing is read from event streams, so no pong can be expected."""
        rules = self._admission_rules()
        heartbeat = msgspec.structs.replace(rules.heartbeat, is_native=False)
        return msgspec.structs.replace(rules, origins=pages, heartbeat=heartbeat, pong_timeout_s=0)

    def hosted_edge(self) -> HostedEdge:
        """For the clients of another server that hosts this cable."""
        websockets = AsgiEndpoint(self._services(), self._admission(), ACTION_CABLE, self._encoders)
        return HostedEdge(
            endpoints={"websocket": websockets},
            queue=self._handshake_queue,
            handshake_timeout_s=self._options.limits.handshake_timeout_s,
            refusals=self._refusals,
            counters=self.counters,
        )

    def _broadcasts(self) -> Broadcasts:
        http = self._options.http_broadcast
        return Broadcasts(
            self.node.publish,
            self.counters,
            key=key_text(self._keys.broadcast, BROADCAST_PHRASE),
            pages=Origins(http.cors_hosts) if http.cors_headers else None,
        )

    def _api(self) -> list[Route]:
        api = self._options.api
        key = key_text(self._keys.api, API_PHRASE)
        if not key:
            self.announcements.append("The API wants no key")
        pages = Origins(api.cors_hosts) if api.cors_headers else None
        broadcasts = Broadcasts(self.node.publish, self.counters, key=key, pages=pages)
        publishing = BroadcastEndpoint(broadcasts, self._memory)
        reading = Access("GET", key=key, pages=pages)
        presence = ReadEndpoint(presence_of(self._reads), reading)
        return [
            Route(f"{api.path}/publish", publishing),
            Route(f"{api.path}/presence/{{stream:path}}/users", presence),
            Route(
                f"{api.path}/history/{{stream:path}}",
                ReadEndpoint(history_of(self._reads), reading),
            ),
        ]

    # Who publishes

    def _listen_to_publishers(self) -> None:
        options, node = self._options, self.node
        # What every node hears from the publisher is not handed on, where that would reach all
        # nodes once more.
        publish_once = node.hear if self._engine.is_shared else node.publish
        for adapter in options.broadcast.adapters:
            match adapter:
                case "redis":
                    publisher = publishers.from_redis(
                        options, publish_once, self.counters, self.supervisor
                    )
                case "redisx":
                    publisher = publishers.from_redis_stream(
                        options, node.publish, self.counters, self.supervisor
                    )
                case "nats":
                    queue = publishers.QUEUE if self._engine.is_shared else ""
                    publisher = publishers.from_nats(
                        options,
                        self._nats_servers(),
                        node.publish,
                        self.counters,
                        self.supervisor,
                        queue=queue,
                    )
                case _:
                    continue
            self.start.append(publisher.start)
            # Before all else ends: what was taken is published.
            self.finish.insert(0, publisher.close)

    def _announce(self, port: int, what: str, scheme: str, *paths: str, host: str = "") -> None:
        secure = "s" if self._options.server.ssl_cert else ""
        host = bracketed((host or self._options.server.host or "localhost").strip("[]"))
        for path in paths:
            self.announcements.append(f"Serving {what} at {scheme}{secure}://{host}:{port}{path}")
        if what == "broadcasts" and self._options.access.public:
            url = f"{scheme}{secure}://{host}:{port}{paths[0]}"
            self.announcements.append(f"Try: curl {url} -d '{_EXAMPLE}'")


def _protocol(
    first: Callable[[ClientConnection, Host], Stage],
) -> type[asyncio.Protocol]:
    """Builds connections for uvicorn, which asks for a class and calls it."""
    return cast("type[asyncio.Protocol]", functools.partial(ClientConnection, first))
