"""Builds a server from its options, bottom up: engine, hub, applications, node, edges.

Each step is a module of this room; this one states their order. Every part is complete when it is built.
"""

import asyncio
import functools
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from catenary.config.options import LimitOptions, Options
from catenary.config.stream_rules import stream_rules
from catenary.node.disconnector import Disconnector
from catenary.node.hub import Hub
from catenary.node.limits import ClientLimits
from catenary.node.node import Node
from catenary.node.peer_channels import PeerChannels
from catenary.node.pinger import Pinger
from catenary.node.reads import Reads
from catenary.node.session_writer import PENDING_LIMIT
from catenary.node.token_expiry import TICK_S, TokenExpiry
from catenary.node.traced import TracedEnds
from catenary.ports import PubSub
from catenary.process.listener import Listener
from catenary.process.port_sockets import PortSockets
from catenary.process.worker_context import WorkerContext
from catenary.server import figures, health_checks, tracing
from catenary.server.applications import Applications, build_applications
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.client_log import add_client_log
from catenary.server.cluster import build_cluster
from catenary.server.engines import Engine, build_engine, build_nats
from catenary.server.graphql import with_graphql
from catenary.server.listeners import build_listeners
from catenary.server.long_polling import with_long_polling
from catenary.server.metrics_reports import add_metrics_reports
from catenary.server.publishers import start_publishers
from catenary.server.pusher import with_pusher
from catenary.server.pusher_api import PusherState
from catenary.server.rest import RestServices
from catenary.server.shutdown_phases import FLUSH_DISCONNECTS, SAVE_SESSIONS
from catenary.tracing.pubsub import TracedPubSub
from catenary.transports.asgi_edge import AsgiEdge

if TYPE_CHECKING:
    from catenary.channels.cable import Cable


class Assembly:
    """A server that is ready to run: ``build`` lists how it is started, shut down and announced."""

    def __init__(
        self,
        options: Options,
        worker: WorkerContext | None = None,
        cable: "Cable | None" = None,
        code: str = "",
        *,
        is_mounted: bool = False,
        sources: Mapping[str, str] = MappingProxyType({}),
        sockets: PortSockets | None = None,
    ) -> None:
        """Must be called where the loop runs.

        ``options`` are effective ones, ``worker`` is set in a worker process, ``cable`` is an application in this
        process, ``code`` the name of one (``module:cable``) that runs in code workers; with both, the cable is the one
        by which the pages of ``asgi`` publish and read. With ``is_mounted``, another server listens. ``sources`` are those
        of :class:`ServerBuild`, and so are ``sockets``. Raises
        :class:`catenary.errors.ConfigError`.
        """
        traces = tracing.build_tracing(options, worker)
        tracer = tracing.tracer_of(traces)
        self.build = build = ServerBuild(options, worker, sources, tracer, sockets)
        tracing.register(build, traces)
        nats = build_nats(build)
        engine = build_engine(build, nats)
        add_client_log(build)
        if cable is not None and cable.observer is not None and not code:
            build.observers.attach(cable.observer)
        call_soon = asyncio.get_running_loop().call_soon
        pusher = PusherState(build, engine)
        hub = Hub(
            build.counters,
            call_soon,
            pusher.interest,
            build.observers,
            tracer,
            rules=build.stream_rules,
            history=engine.history,
        )
        figures.register(build, hub)
        applications = build_applications(build, cable, code)
        self.code = applications.code
        pubsub = engine.pubsub(build, hub, build.restore)
        if tracer is not None:
            pubsub = TracedPubSub(tracer, pubsub)
        channels = None if engine.peers is None else PeerChannels(engine.peers)
        self.cluster = build_cluster(build, None if channels is None else channels.cluster)
        occupancy = pusher.occupancy(build, hub, pubsub)
        health_checks.watch_connects(build)
        self.node = _node(build, engine, hub, pubsub, applications)
        build.restored.append(self.node.restore)
        reads = Reads(engine.history, engine.presence) if engine.keeps else Reads(None, None)
        self._clients = ClientEndpoints(
            build,
            self.node,
            token_header="" if applications.tokens is None else applications.tokens.header,
            hub=hub,
            history=engine.history,
            peers=None if channels is None else channels.polls,
            records=engine.records,
            send=pubsub.send,
            keeps_sessions=engine.keeps and options.broker.sessions_ttl_s > 0,
        )
        rest = RestServices(build, self.node, reads, self._clients, self.cluster)
        self.listeners: list[Listener] = []
        if not is_mounted:
            self.listeners += build_listeners(
                build,
                self.node,
                reads,
                applications,
                self._clients,
                rest=rest,
                occupancy=occupancy,
            )
        start_publishers(build, self.node.publications, engine, nats)
        _start_applications(build, self.node, reads, applications)
        health_checks.add_limits(build)
        add_metrics_reports(build)

    def asgi_edge(self) -> AsgiEdge:
        """Endpoints for the clients of another server that hosts this cable."""
        edge = with_graphql(self.build, self._clients.asgi_edge(), self._clients)
        edge = with_pusher(self.build, edge, self._clients)
        return with_long_polling(self.build, edge, self._clients)


def _node(
    build: ServerBuild,
    engine: Engine,
    hub: Hub,
    pubsub: PubSub,
    applications: Applications,
) -> Node:
    options = build.options
    loop = asyncio.get_running_loop()
    router = applications.router
    disconnector = Disconnector(
        router if build.tracer is None else TracedEnds(build.tracer, router),
        build.counters,
        rate=options.disconnector.rate,
        # The other half is for clients that are connected or connecting.
        at_once=max((options.rpc.concurrency or options.rpc.concurrency_initial) // 2, 1),
        backlog=options.disconnector.backlog,
        clock=loop.time,
    )
    token_expiry = _token_expiry(build) if options.jwt.enforce_expiry else None
    node = Node(
        router,
        hub=hub,
        pubsub=pubsub,
        history=engine.history,
        presence=engine.presence,
        sessions=engine.sessions,
        pinger=Pinger(loop, time.time_ns),
        disconnector=disconnector,
        disconnect_mode=options.disconnector.mode,
        restored_action=applications.restored_action,
        counters=build.counters,
        limits=_client_limits(options.limits),
        observers=build.observers,
        expiry=applications.expiry,
        token_expiry=token_expiry,
        tracer=build.tracer,
    )
    build.reloads.add(
        ("streams.rules",),
        lambda new: functools.partial(build.stream_rules.replace, stream_rules(new.options)),
    )
    build.reloads.add(
        (f"limits.{name}" for name in ClientLimits.__struct_fields__),
        lambda new: functools.partial(node.replace_limits, _client_limits(new.options.limits)),
    )
    if engine.keeps:
        # Sessions and members are refreshed three times within their TTL.
        broker = options.broker
        build.tick(1, node.tick)
        build.tick(max(broker.presence_ttl_s / 3, 0.1), node.touch_members)
        build.tick(max(broker.sessions_ttl_s / 3, 0.1), node.touch_sessions)
    if engine.keeps and engine.is_shared:
        build.figures.queue("sessions", lambda: node.unwritten_num, PENDING_LIMIT)
    build.shutdown.add(SAVE_SESSIONS, node.settle)
    build.shutdown.add(FLUSH_DISCONNECTS, disconnector.drain)
    return node


def _token_expiry(build: ServerBuild) -> TokenExpiry:
    call_soon = asyncio.get_running_loop().call_soon
    expiry = TokenExpiry(build.options.jwt.expiry_grace_s, build.counters, time.time, call_soon)
    build.tick(TICK_S, expiry.tick)
    return expiry


def _client_limits(limits: LimitOptions) -> ClientLimits:
    return ClientLimits(
        max_identifier_size=limits.max_identifier_size,
        max_subscriptions=limits.max_subscriptions,
        max_streams=limits.max_streams,
        max_stream_name_size=limits.max_stream_name_size,
        max_state_keys=limits.max_state_keys,
        max_state_size=limits.max_state_size,
        max_user_connections=limits.max_user_connections,
        max_command_rate=limits.max_command_rate,
    )


def _start_applications(
    build: ServerBuild, node: Node, reads: Reads, applications: Applications
) -> None:
    """Called last: applications may publish when they start."""
    cable, code, hosted = applications.cable, applications.code, applications.hosted
    publications = node.publications
    if cable is not None:
        performer = node if code is None else None
        build.start.append(
            functools.partial(
                cable.application.start,
                publications if build.tracer is None else tracing.publisher(publications),
                performer,
                reads,
            )
        )
    if code is not None:
        build.start.append(functools.partial(code.start, publications, node, reads))
    if hosted is not None:
        build.start.append(hosted.start)
