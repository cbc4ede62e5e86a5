"""Builds the deciders of clients' commands: the application, and the channels and tokens that need no application.

Knows: options, every kind of connection to an application. Does not know: the node, the edges.
"""

import sys
from typing import TYPE_CHECKING

import msgspec

from catenary.auth.keys import RPC_PHRASE, effective_key
from catenary.codeworkers.call_queue import CALLS_LIMIT
from catenary.codeworkers.pool import CodeWorkerPool
from catenary.codeworkers.process import TRACED
from catenary.config.effective import keys
from catenary.config.options import RpcOptions
from catenary.config.urls import without_secrets
from catenary.errors import MissingExtra
from catenary.node.resumption import ExpiryRules
from catenary.ports import Application
from catenary.routing.identity import everybody
from catenary.routing.router import Identify, Router
from catenary.rpc.adaptive_limit import AdaptiveRules
from catenary.rpc.calls import CallLimits
from catenary.rpc.none import NoApplication
from catenary.rpc.remote import RemoteApplication
from catenary.rpc.tls import Tls
from catenary.server import standalone
from catenary.server.build import ServerBuild
from catenary.server.pusher import private_streams
from catenary.server.pusher import realms as pusher_realms
from catenary.server.replaced_values import follow_secret
from catenary.server.shutdown_phases import CLOSE_APPLICATION, STOP_HOSTED_APPLICATION
from catenary.server.standalone import Tokens
from catenary.supervision.health import reported
from catenary.tracing.application import TracedApplication

if TYPE_CHECKING:
    from catenary.channels.application import CableApplication
    from catenary.channels.cable import Cable
    from catenary.rpc.remote import RemoteApplication
    from catenary.server.hosted_application import HostedApplication


class Applications(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Everything on the application's side; None for parts that this server lacks.

    ``router`` decides the node's commands, ``cable`` is the application in this process, ``code`` the pool of processes that
    run it, ``hosted`` the hosted ASGI application, ``restored_action`` the action that is performed on the
    subscriptions of a resumed session, "" for none.
    """

    router: Application
    tokens: Tokens | None
    cable: "Cable | None"
    code: CodeWorkerPool | None
    hosted: "HostedApplication | None"
    restored_action: str
    expiry: ExpiryRules


def build_applications(build: ServerBuild, cable: "Cable | None", code: str) -> Applications:
    """``cable`` is an application in this process, ``code`` the name of one (``module:cable``) for code workers; with
    both, the cable serves the pages of ``asgi`` only. Raises :class:`catenary.errors.ConfigError`."""
    options = build.options
    tokens = standalone.maybe_tokens(options.jwt, build.keys.tokens, build.supervisor)
    pool = _code_workers(build, code) if code else None
    hosted = _hosted_application(build, cable)
    application = _application(build, cable, pool)
    identify: list[Identify] = []
    if tokens is not None:
        standalone.follow_keys(build, tokens)
        identify.append(tokens.identity)
        build.start.extend(tokens.start)
        for close in tokens.finish:
            build.shutdown.add(CLOSE_APPLICATION, close)
    if options.access.noauth:
        identify.append(everybody)
    channels = standalone.channels(build, private_streams(options))
    build.announcements.extend(standalone.announcements(options, build.keys, tokens, channels))
    _add_checks(build, application, pool)
    key_trouble = None if tokens is None else tokens.trouble
    summary = "the keys of tokens can't be fetched"
    check = None if key_trouble is None else reported(summary, key_trouble)
    build.checks.add("token keys", check, is_blocking=False)
    here = pool if pool is not None or cable is None else cable.application
    if here is not None:
        _register_figures(build, here)
    return Applications(
        router=Router(
            application,
            channels=channels,
            identify=identify,
            realms=pusher_realms(options),
        ),
        tokens=tokens,
        cable=cable,
        code=pool,
        hosted=hosted,
        restored_action=options.broker.restored_action if here is None else here.restored_action,
        expiry=_expiry_rules(tokens, resume_expired=options.jwt.resume_expired),
    )


def _application(
    build: ServerBuild, cable: "Cable | None", pool: CodeWorkerPool | None
) -> Application:
    if cable is not None:
        build.shutdown.add(CLOSE_APPLICATION, cable.stop)
    if pool is not None:
        build.shutdown.add(CLOSE_APPLICATION, pool.close)
        workers = build.options.app.workers
        build.announcements.append(f"The application runs in code workers: {workers}")
        return _traced(build, pool, "code_workers")
    if cable is not None:
        build.announcements.append("The application runs in this process")
        return _traced(build, cable.application, "in_process")
    match build.options.rpc.implementation:
        case "grpc":
            return _grpc_application(build)
        case "http":
            return _http_application(build)
        case _:
            build.announcements.append("There is no application (norpc)")
            return NoApplication()


def _traced(build: ServerBuild, application: Application, system: str) -> Application:
    tracer = build.tracer
    return application if tracer is None else TracedApplication(tracer, application, system)


def _add_checks(build: ServerBuild, application: Application, pool: CodeWorkerPool | None) -> None:
    """Whether the application can be called. One behind RPC informs only: if it is down, it is down for all nodes."""
    if isinstance(application, RemoteApplication):
        check = reported("the application is unavailable", lambda: application.trouble)
        build.checks.add("application", check, is_blocking=False)
    else:
        is_asked = not isinstance(application, NoApplication)
        check = reported("no code worker accepts calls", lambda: _missing(build, pool, at_most=0))
        build.checks.add("application", check if is_asked else None)
    wanted = build.options.app.workers
    check = reported("a code worker is missing", lambda: _missing(build, pool, at_most=wanted - 1))
    build.checks.add("code workers", None if pool is None else check, is_blocking=False)


def _missing(build: ServerBuild, pool: CodeWorkerPool | None, at_most: int) -> str | None:
    """Says how many code workers accept calls, if these are ``at_most`` so many."""
    found = build.counters.app_workers_num
    if pool is None or found > at_most:
        return None
    return f"{found} of {build.options.app.workers} code workers accept calls"


def _hosted_application(build: ServerBuild, cable: "Cable | None") -> "HostedApplication | None":
    where = build.options.server.asgi
    if not where:
        return None
    from catenary.server.hosted_application import load_hosted_application

    hosted = load_hosted_application(
        where,
        cable,
        build.supervisor,
        logs_access=build.options.log.access,
        trusts_this_machine=not build.options.server.trusted_proxies,
    )
    build.shutdown.add(STOP_HOSTED_APPLICATION, hosted.stop)
    return hosted


def _code_workers(build: ServerBuild, code: str) -> CodeWorkerPool:
    options, counters = build.options, build.counters
    build.figures.queue("calls", lambda: counters.rpc_pending_num)
    build.figures.limit(
        "app_calls", lambda: counters.app_calls_num, CALLS_LIMIT * options.app.workers
    )
    return CodeWorkerPool(
        (
            *(sys.executable, "-m", "catenary.server.code_worker"),
            *(code, options.log.level, options.log.format),
            *((TRACED,) if options.otel.enabled else ()),
        ),
        number=options.app.workers,
        queue_timeout_s=options.rpc.command_timeout_ms / 1000,
        end_s=options.node.shutdown_timeout_s,
        counters=build.counters,
        supervisor=build.supervisor,
        tracer=build.tracer,
    )


def _grpc_application(build: ServerBuild) -> Application:
    try:
        from catenary.rpc.grpc import GrpcApplication, MessageSizes
    except ImportError as error:
        raise MissingExtra("rpc_host with gRPC", "grpc") from error
    rpc = build.options.rpc
    secure = ", TLS" if rpc.enable_tls else ""
    build.announcements.append(
        f"The application is called over gRPC at {without_secrets(rpc.host)}"
        f" (concurrency: {_concurrency(rpc)}{secure})"
    )
    application = GrpcApplication(
        rpc.host,
        counters=build.counters,
        limits=_call_limits(rpc),
        tls=_tls(rpc) if rpc.enable_tls else None,
        sizes=MessageSizes(rpc.max_recv_size_bytes, rpc.max_send_size_bytes),
        supervisor=build.supervisor,
        tracer=build.tracer,
    )
    build.figures.register(
        "grpc_active_conn_num",
        "Open connections to the application over gRPC",
        lambda: application.connections_num,
    )
    return _started(build, application)


def _http_application(build: ServerBuild) -> Application:
    from catenary.rpc.http import HttpApplication

    rpc = build.options.rpc
    key = effective_key(build.keys.rpc, RPC_PHRASE)
    build.announcements.append(
        f"The application is called over HTTP at {without_secrets(rpc.host)}"
        f" (concurrency: {_concurrency(rpc)}, {'with' if key else 'without'} a key)"
    )
    application = HttpApplication(
        rpc.host,
        counters=build.counters,
        limits=_call_limits(rpc),
        tls=_tls(rpc),
        key=key,
        tracer=build.tracer,
    )

    def send(key: str, *_retired: str) -> None:
        application.replace_key(key)

    follow_secret(build, lambda options: effective_key(keys(options).rpc, RPC_PHRASE), send)
    return _started(build, application)


def _started(build: ServerBuild, application: "RemoteApplication") -> Application:
    build.add(application.start, CLOSE_APPLICATION, application.close)
    rpc, counters = build.options.rpc, build.counters
    build.figures.register(
        "rpc_capacity_num",
        "Calls to the application that may be under way",
        lambda: application.capacity,
    )
    maximum = rpc.concurrency or rpc.concurrency_max
    build.figures.limit("rpc_concurrency", lambda: application.calls_num, maximum)
    build.figures.queue("calls", lambda: counters.rpc_pending_num)
    return application


def _concurrency(rpc: RpcOptions) -> str:
    if rpc.concurrency:
        return str(rpc.concurrency)
    low, first, high = rpc.concurrency_min, rpc.concurrency_initial, rpc.concurrency_max
    return f"auto (initial={first}, min={low}, max={high})"


def _call_limits(rpc: RpcOptions) -> CallLimits:
    adaptive = None
    if not rpc.concurrency:
        adaptive = AdaptiveRules(rpc.concurrency_initial, rpc.concurrency_min, rpc.concurrency_max)
    return CallLimits(
        concurrency=rpc.concurrency,
        adaptive=adaptive,
        request_timeout_s=rpc.request_timeout_ms / 1000,
        command_timeout_s=rpc.command_timeout_ms / 1000,
    )


def _tls(rpc: RpcOptions) -> Tls:
    return Tls(verify=rpc.tls_verify, root_ca=rpc.tls_root_ca)


def _expiry_rules(tokens: Tokens | None, *, resume_expired: bool) -> ExpiryRules:
    if tokens is None:
        return ExpiryRules()
    return ExpiryRules(
        shows_token=tokens.identity.shows_token,
        may_resume_expired=resume_expired,
        renewed=tokens.identity.renewed,
    )


def _register_figures(build: ServerBuild, application: "CodeWorkerPool | CableApplication") -> None:
    """Those of an application in Python."""
    build.figures.register(
        "app_limited_total",
        "Calls rejected by the rate limits of channels and actions",
        lambda: application.limited_total,
    )
    build.figures.register(
        "app_failed_total",
        "Calls in which the application raised an unhandled exception",
        lambda: application.failed_total,
    )
    build.figures.register(
        "app_slow_total",
        "Times a method of the application blocked its event loop for too long",
        lambda: application.slow_total,
    )
