"""Loads an Action Cable server, and sees whether everything arrives, once and in order.

  catenary bench                                   fanout: publications to 100 clients
  catenary bench connect --clients=5000
  catenary bench echo --channel=BenchmarkChannel   calls of an action, one after the other
  catenary bench echo --action= --clients=50       whispers, in pairs
  catenary bench resume --clients=1000             all are cut off, and come back

Exit status: 1 where a client did not get in, or something was lost, doubled or out of order.
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
from catenary.protocols.actioncable import EXTENDED, SUBPROTOCOL
from catenary.terminal.cable_socket import Opening, address
from catenary.terminal.load import Connected, Latency, Load, Plan, Resumed, Target, Worked
from catenary.terminal.running import Given
from catenary.terminal.screen import Bar, Paper, papers
from catenary.terminal.surroundings import Surroundings, declare_keys, surroundings
from catenary.terminal.words import count, header, seconds, token

KINDS: Final = ("connect", "fanout", "echo", "resume")
CHANNEL: Final = "BenchmarkChannel"
"""What the shoot-outs of cable servers call it (palkan/websocket-shootout): it answers ``echo``."""

_SPARE_FILES: Final = 50
_ENDLESS: Final = 2**31
_T = TypeVar("_T")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    format: int = 1
    kind: str
    clients: int
    connected: Connected
    worked: Worked | None = None
    resumed: Resumed | None = None
    problems: tuple[str, ...] = ()


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, nargs="?", default="fanout")
    parser.add_argument("--url", help="the cable, ws://…/cable")
    parser.add_argument("--publish-url", metavar="URL", help="where the server takes broadcasts")
    declare_keys(parser, "the broadcast key")
    parser.add_argument("--clients", type=count, default=100, metavar="N")
    parser.add_argument("--seconds", type=seconds, default=5.0, metavar="S")
    parser.add_argument(
        "--rate", type=_rate, help="publications per second (10), or of connect: clients per second"
    )
    parser.add_argument("--size", type=count, default=100, metavar="BYTES", help="of a message")
    parser.add_argument("--streams", type=count, default=1, metavar="N", help="of fanout")
    parser.add_argument("--missed", type=count, default=20, metavar="N", help="of resume (20)")
    parser.add_argument("--channel", help="listen here instead of streams; of echo: who answers")
    parser.add_argument("--stream", help="the stream of --channel, where it has one")
    parser.add_argument("--action", default="echo", help="of echo; empty: whispers")
    parser.add_argument("--plain", action="store_true", help="do not sign names of streams")
    parser.add_argument("--header", action="append", type=header, default=[], metavar="NAME:VALUE")
    parser.add_argument("--jwt", type=token, metavar="TOKEN", help="show this token")
    parser.add_argument("--patience", type=seconds, default=5.0, help="for what is lost (5 s)")
    parser.add_argument("--json", action="store_true", help="print data")


def run(given: Given) -> int:
    kind: str = given.arguments.kind
    plan, target = _plan(given.arguments), _target(given)
    _raise_open_files(plan.clients)
    out, notes = papers(given.environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(_measured(kind, plan, target, notes))
    is_data: bool = given.arguments.json
    out.say(msgspec.json.encode(report).decode() if is_data else table(report, out))
    return 1 if report.problems else 0


def _plan(arguments: argparse.Namespace) -> Plan:
    kind, rate = arguments.kind, arguments.rate
    if kind == "echo" and not arguments.action and arguments.clients % 2:
        raise ConfigError(f"--clients: expected pairs that whisper, got {arguments.clients}")
    publishes = kind in ("fanout", "resume")
    publishing_rate = (rate or 10.0) if publishes else 0.0
    return Plan(
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


def _target(given: Given) -> Target:
    arguments, around = given.arguments, surroundings(given, "broadcast_key")
    subprotocol = EXTENDED if arguments.kind == "resume" else SUBPROTOCOL
    shown = (f"anycable-token.{arguments.jwt}",) if arguments.jwt else ()
    streams = _streams(arguments)
    return Target(
        opening=Opening(
            address=address(arguments.url or around.cable_url),
            subprotocols=(subprotocol, *shown),
            headers=tuple(arguments.header),
        ),
        broadcast_url=arguments.publish_url or around.broadcast_url,
        broadcast_key=arguments.key or around.broadcast_key,
        streams=streams,
        identifiers=_identifiers(arguments, around, streams),
        action=arguments.action,
    )


def _streams(arguments: argparse.Namespace) -> tuple[str, ...]:
    """New ones for each run, so that nobody else speaks there."""
    if arguments.stream:
        return (arguments.stream,)
    if arguments.channel and arguments.kind in ("fanout", "resume"):
        raise ConfigError("--channel: expected its --stream, too, to publish there")
    name = f"bench-{secrets.token_hex(4)}"
    whispers = arguments.kind == "echo" and not arguments.action
    number = arguments.clients // 2 if whispers else _stream_count(arguments)
    return tuple(f"{name}-{each}" for each in range(number))


def _identifiers(
    arguments: argparse.Namespace, around: Surroundings, streams: tuple[str, ...]
) -> tuple[str, ...]:
    if arguments.channel or (arguments.kind == "echo" and arguments.action):
        channel = arguments.channel or CHANNEL
        identifier = channel if channel.startswith("{") else json.dumps({"channel": channel})
        return (identifier,) * len(streams)
    if arguments.kind == "connect":
        return ("",)
    return tuple(around.identifier(stream, is_plain=arguments.plain) for stream in streams)


def _raise_open_files(clients: int) -> None:
    """To the hard limit. Raises :class:`ConfigError` where that is too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and clients + _SPARE_FILES > hard:
        most = hard - _SPARE_FILES
        raise ConfigError(f"--clients: expected at most {most} (open files: {hard}), got {clients}")


async def _measured(kind: str, plan: Plan, target: Target, notes: Paper) -> Report:
    load = Load(plan, target)
    connected = await _watched(
        load.connect, notes, "connecting", lambda: (load.connected, plan.clients)
    )
    report = Report(kind=kind, clients=plan.clients, connected=connected)
    worked = resumed = None
    if connected.ready == plan.clients and kind != "connect":
        gc.collect()
        gc.disable()  # its pauses would be told as the server's latency
        try:
            if kind == "resume":
                resumed = await _watched(
                    load.resume,
                    notes,
                    "coming back",
                    lambda: (load.connected - plan.clients, plan.clients),
                )
            worked = await _watched(load.work, notes, kind, _progress(load, plan))
        except OSError as error:
            raise BackendError(f"the server takes no broadcasts: {error}") from error
    load.leave()
    report = msgspec.structs.replace(report, worked=worked, resumed=resumed)
    return msgspec.structs.replace(report, problems=_problems(report))


def _progress(load: Load, plan: Plan) -> Callable[[], tuple[float, float]]:
    if plan.echoes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        return lambda: (min(loop.time() - began, plan.echo_s), plan.echo_s)
    before = load.published
    return lambda: (load.published - before, plan.publications)


async def _watched(
    work: Callable[[], Awaitable[_T]],
    notes: Paper,
    title: str,
    progress: Callable[[], tuple[float, float]],
) -> _T:
    """Work with a bar beside it."""
    watching = asyncio.create_task(Bar(notes).watch(title, progress))
    try:
        return await work()
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def _problems(report: Report) -> tuple[str, ...]:
    """Each way in which not everything arrived once and in order."""
    counts = {"not connected": report.clients - report.connected.ready}
    if report.resumed is not None:
        counts["not back"] = report.clients - report.resumed.returned
        counts["histories that did not reach back"] = report.resumed.forgotten
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


def table(report: Report, out: Paper) -> str:
    """The report for people."""
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
    """Where all that arrived belongs to one time."""
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
