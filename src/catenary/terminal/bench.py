"""Generates load, and checks that every message arrives, once and in order.

  catenary bench                               publications to 100 clients
  catenary bench connect --clients=5000
  catenary bench echo                          calls of an action
  catenary bench echo --action= --clients=50   whispers, in pairs
  catenary bench resume --clients=1000         all are cut off, and reconnect

Exit status: 1 if a client could not connect, or a message was lost, doubled or
out of order.
"""

import argparse
import asyncio
import gc
import json
import resource
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
import uvloop

from catenary.errors import BackendError, ConfigError
from catenary.protocols.actioncable_json import EXTENDED, SUBPROTOCOL
from catenary.terminal.argument_values import (
    add_client_arguments,
    count,
    seconds,
)
from catenary.terminal.arguments import more_arguments
from catenary.terminal.cable_socket import HandshakeRequest, address
from catenary.terminal.console import Console, ProgressBar, consoles
from catenary.terminal.load import (
    ConnectResult,
    Latency,
    LoadGenerator,
    LoadPlan,
    LoadTarget,
    ResumeResult,
    WorkResult,
)
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import ServerSettings, add_key_arguments, server_settings

KINDS: Final = ("connect", "fanout", "echo", "resume")
CHANNEL: Final = "BenchmarkChannel"
"""The channel of AnyCable's benchmarks (palkan/websocket-shootout), which answers ``echo``."""

_SPARE_FILES: Final = 50
_ENDLESS: Final = 2**31
_T = TypeVar("_T")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The output of ``--json``."""

    format: int = 1
    kind: str
    clients: int
    connected: ConnectResult
    worked: WorkResult | None = None
    resumed: ResumeResult | None = None
    problems: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, nargs="?", default="fanout", metavar="KIND")
    parser.add_argument("--url", help="the cable, ws://…/cable")
    more_arguments(parser).add_argument(
        "--publish-url", metavar="URL", help="where the server accepts publications"
    )
    add_key_arguments(parser, "the broadcast key")
    parser.add_argument("--clients", type=count, default=100, metavar="N", help="(100)")
    parser.add_argument(
        "--seconds", type=seconds, default=5.0, metavar="S", help="of publications or calls (5)"
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        metavar="N",
        help="publications per second (10); connect: clients",
    )
    more = more_arguments(parser)
    more.add_argument(
        "--size", type=count, default=100, metavar="BYTES", help="size of a message (100)"
    )
    more.add_argument(
        "--streams", type=count, default=1, metavar="N", help="number of streams, for fanout (1)"
    )
    more.add_argument(
        "--missed",
        type=count,
        default=20,
        metavar="N",
        help="messages missed by each client, for resume (20)",
    )
    parser.add_argument("--channel", metavar="NAME", help="subscribe to it; for echo: it answers")
    more.add_argument("--stream", metavar="NAME", help="the stream of --channel, to publish to")
    parser.add_argument(
        "--action", default="echo", metavar="NAME", help="for echo (echo); empty: clients whisper"
    )
    more.add_argument("--plain", action="store_true", help="do not sign stream names")
    add_client_arguments(parser)
    more.add_argument(
        "--patience",
        type=seconds,
        metavar="S",
        default=5.0,
        help="time without a message after which missing ones count as lost (5 s)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(invocation: Invocation) -> int:
    kind: str = invocation.arguments.kind
    plan, target = _plan(invocation.arguments), _target(invocation)
    _raise_open_files(plan.clients)
    out, notes = consoles(invocation.environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(_measured(kind, plan, target, notes))
    is_data: bool = invocation.arguments.json
    out.say(msgspec.json.encode(report).decode() if is_data else table(report, out))
    return 1 if report.problems else 0


def _plan(arguments: argparse.Namespace) -> LoadPlan:
    kind, rate = arguments.kind, arguments.rate
    if kind == "echo" and not arguments.action and arguments.clients % 2:
        raise ConfigError(f"--clients: expected pairs that whisper, got {arguments.clients}")
    publishes = kind in ("fanout", "resume")
    publishing_rate = (rate or 10.0) if publishes else 0.0
    return LoadPlan(
        clients=arguments.clients,
        streams=_stream_count(arguments),
        publications=max(1, round(publishing_rate * arguments.seconds)) if publishes else 0,
        rate=publishing_rate,
        payload_bytes=arguments.size,
        echoes=_ENDLESS if kind == "echo" else 0,
        echo_s=arguments.seconds if kind == "echo" else 0,
        connect_rate=(rate or 0.0) if kind == "connect" else 0.0,
        away=arguments.missed if kind == "resume" else 0,
        patience_s=arguments.patience,
    )


def _stream_count(arguments: argparse.Namespace) -> int:
    if arguments.kind != "fanout" or arguments.stream:
        return 1
    streams: int = min(arguments.streams, arguments.clients)
    return streams


def _target(invocation: Invocation) -> LoadTarget:
    arguments, server = invocation.arguments, server_settings(invocation, "broadcast_key")
    subprotocol = EXTENDED if arguments.kind == "resume" else SUBPROTOCOL
    shown = (f"anycable-token.{arguments.jwt}",) if arguments.jwt else ()
    streams = _streams(arguments)
    return LoadTarget(
        opening=HandshakeRequest(
            address=address(arguments.url or server.cable_url),
            subprotocols=(subprotocol, *shown),
            headers=tuple(arguments.header),
        ),
        broadcast_url=arguments.publish_url or server.broadcast_url,
        broadcast_key=arguments.key or server.broadcast_key,
        streams=streams,
        identifiers=_identifiers(arguments, server, streams),
        action=arguments.action,
    )


def _streams(arguments: argparse.Namespace) -> tuple[str, ...]:
    """New names for each run, so that no other client uses them."""
    if arguments.stream:
        return (arguments.stream,)
    if arguments.channel and arguments.kind in ("fanout", "resume"):
        raise ConfigError("--channel: expected its --stream, too, to publish there")
    name = f"bench-{secrets.token_hex(4)}"
    whispers = arguments.kind == "echo" and not arguments.action
    number = arguments.clients // 2 if whispers else _stream_count(arguments)
    return tuple(f"{name}-{each}" for each in range(number))


def _identifiers(
    arguments: argparse.Namespace, server: ServerSettings, streams: tuple[str, ...]
) -> tuple[str, ...]:
    if arguments.channel or (arguments.kind == "echo" and arguments.action):
        channel = arguments.channel or CHANNEL
        identifier = channel if channel.startswith("{") else json.dumps({"channel": channel})
        return (identifier,) * len(streams)
    if arguments.kind == "connect":
        return ("",)
    return tuple(server.identifier(stream, is_plain=arguments.plain) for stream in streams)


def _raise_open_files(clients: int) -> None:
    """Raises the limit of open files to the hard limit. Raises :class:`ConfigError` if that is too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and clients + _SPARE_FILES > hard:
        most = hard - _SPARE_FILES
        raise ConfigError(f"--clients: expected at most {most} (open files: {hard}), got {clients}")


async def _measured(kind: str, plan: LoadPlan, target: LoadTarget, notes: Console) -> Report:
    load = LoadGenerator(plan, target)
    connected = await _watched(
        load.connect, notes, "connecting", lambda: (load.connected, plan.clients)
    )
    report = Report(kind=kind, clients=plan.clients, connected=connected)
    worked = resumed = None
    if connected.ready == plan.clients and kind != "connect":
        gc.collect()
        gc.disable()  # its pauses would count as latency of the server
        try:
            if kind == "resume":
                resumed = await _watched(
                    load.resume,
                    notes,
                    "reconnecting",
                    lambda: (load.connected - plan.clients, plan.clients),
                )
            worked = await _watched(load.work, notes, kind, _progress(load, plan))
        except OSError as error:
            raise BackendError(f"the server accepts no publications: {error}") from error
    load.leave()
    report = msgspec.structs.replace(report, worked=worked, resumed=resumed)
    return msgspec.structs.replace(report, problems=_problems(report))


def _progress(load: LoadGenerator, plan: LoadPlan) -> Callable[[], tuple[float, float]]:
    if plan.echoes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        return lambda: (min(loop.time() - began, plan.echo_s), plan.echo_s)
    before = load.published
    return lambda: (load.published - before, plan.publications)


async def _watched(
    work: Callable[[], Awaitable[_T]],
    notes: Console,
    title: str,
    progress: Callable[[], tuple[float, float]],
) -> _T:
    """Awaits the work and shows a progress bar meanwhile."""
    watching = asyncio.create_task(ProgressBar(notes).watch(title, progress))
    try:
        return await work()
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def _problems(report: Report) -> tuple[str, ...]:
    """Everything that is wrong with the result, a line each."""
    counts = {"not connected": report.clients - report.connected.ready}
    if report.resumed is not None:
        counts["not reconnected"] = report.clients - report.resumed.returned
        counts["histories that did not reach back"] = report.resumed.rejected_histories
    if report.worked is not None:
        counts |= {
            "lost": report.worked.lost,
            "twice": report.worked.duplicates,
            "out of order": report.worked.out_of_order,
            "publications not accepted": report.worked.refused,
            "connections closed": report.worked.closed,
            "unexpected messages": report.worked.unexpected,
        }
    found = [f"{number:,} {what}" for what, number in counts.items() if number]
    failure = report.connected.failure or (report.resumed.failure if report.resumed else "")
    return (*found, f"first failure: {failure}") if failure else tuple(found)


def table(report: Report, out: Console) -> str:
    """The report as text."""
    connected = report.connected
    rows = [
        ("clients", f"{connected.ready:,} of {report.clients:,} in {connected.seconds:.2f} s"),
        ("connect", _shown(connected.latency)),
    ]
    if report.resumed is not None:
        resumed = report.resumed
        sessions = f"{resumed.restored:,} sessions resumed, {resumed.missed:,} missed by each"
        rows += [
            ("back", f"{resumed.returned:,} in {resumed.seconds:.2f} s, {sessions}"),
            ("return", _shown(resumed.latency)),
        ]
    if report.worked is not None:
        worked = report.worked
        irregular = (worked.lost, worked.duplicates, worked.out_of_order)
        rows += [
            ("arrived", f"{worked.received:,} of {worked.expected:,}{_pace(report)}"),
            ("delivery", _shown(worked.latency)),
            ("irregular", "{:,} lost, {:,} twice, {:,} out of order".format(*irregular)),
            ("this tool", f"busy {worked.load_cpu_s / worked.seconds:.0%} of a core"),
        ]
    lines = [f"{out.painted('bold', f'{name:10}')} {text}" for name, text in rows]
    lines += [out.painted("red", f"problem    {problem}") for problem in report.problems]
    return "\n".join(lines)


def _pace(report: Report) -> str:
    """The rate of deliveries; empty after a resume, whose messages do not belong to one period."""
    worked = report.worked
    if worked is None or report.resumed is not None:
        return ""
    return f", {worked.received / worked.seconds:,.0f} per second"


def _shown(latency: Latency) -> str:
    return (
        f"p50 {latency.p50_ms:.1f} ms, p95 {latency.p95_ms:.1f} ms, "
        f"p99 {latency.p99_ms:.1f} ms, max {latency.max_ms:.1f} ms"
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1e6:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return rate
