"""The benchmark of Catenary, alone or side by side with anycable-go.

    python -m bench [--only NAME] [--clients N] [--rounds N] [--quick] [--long] [--seconds N]
                    [--json FILE] [--svg DIRECTORY]
    python -m bench --readme FILE

ANYCABLE_GO names the binary to compare with; without it, Catenary is measured alone. The exit status is
0 if everything arrived once and in order, 1 if something did not, 2 if nothing could be measured.
"""

import argparse
import os
import resource
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench import plots, readme, report, scenarios
from bench.measure import measure
from bench.plan import Plan
from bench.scenarios import OURS, THEIRS, Result, Scenario
from bench.servers import BenchError, Contestant

SPARE_FILES: Final = 200
"""Open files of a server beside its clients."""

BAR: Final = 16
"""Cells of the progress bar."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.readme:
            sys.stdout.write(readme.table(_read(options.readme)) + "\n")
            return 0
        if not sys.platform.startswith("linux"):
            raise BenchError(f"expected Linux, which has /proc, got {sys.platform}")
        contestants = _contestants()
        chosen = _chosen(options)
        machine = report.this_machine()
        results = _run(chosen, contestants, options.rounds or (1 if options.quick else 3))
    except BenchError as error:
        _print_error(f"bench: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    complete = report.is_complete(results)
    document = report.Document(
        machine=machine,
        servers=contestants,
        rows=report.rows(chosen, results),
        results=tuple(results),
        complete=complete,
    )
    sys.stdout.write(report.table(chosen, results, contestants) + "\n")
    if options.json:
        text = msgspec.json.format(msgspec.json.encode(document), indent=1)
        options.json.write_bytes(text + b"\n")
    if options.svg:
        options.svg.mkdir(parents=True, exist_ok=True)
        for scenario in chosen:
            drawn = plots.scenario(scenario, document)
            Path(options.svg, f"{scenario.name}.svg").write_text(drawn, encoding="utf-8")
    return 0 if complete else 1


def _read(path: Path) -> report.Document:
    """Results of an earlier run. Raises BenchError for a file with other contents."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=report.Document)
    except (OSError, msgspec.DecodeError) as error:
        raise BenchError(f"expected results as --json writes them in {path}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{each.name:13} {each.summary}" for each in scenarios.SCENARIOS),
    )
    names = [scenario.name for scenario in scenarios.SCENARIOS]
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument("--clients", type=_positive, help="instead of each scenario's own number")
    parser.add_argument("--rounds", type=_positive, help="default: 3, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="a trial: small numbers")
    parser.add_argument(
        "--long", action="store_true", help="intake, idle and soak take six times as long"
    )
    parser.add_argument(
        "--seconds", type=_positive, help="how long intake, idle and soak take, each"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as data")
    parser.add_argument("--svg", type=Path, metavar="DIRECTORY", help="draw each scenario")
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help="measure nothing; print a table of the results in FILE",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def _contestants() -> tuple[Contestant, ...]:
    ours = Contestant(
        OURS,
        (sys.executable, "-m", "catenary"),
        observed=(sys.executable, "-m", "bench.pauses"),
        counted=(sys.executable, "-m", "bench.blocks"),
    )
    theirs = os.environ.get("ANYCABLE_GO")
    if not theirs:
        return (ours,)
    path = shutil.which(theirs)
    if path is None:
        raise BenchError(f"expected ANYCABLE_GO to be a program, got {theirs}")
    return ours, Contestant(THEIRS, (path,))


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    """The chosen scenarios in their sizes. Raises BenchError if there is none."""
    most = _most_clients()
    chosen = []
    for scenario in scenarios.SCENARIOS:
        if options.only and scenario.name not in options.only:
            continue
        if reason := scenarios.missing_requirement(scenario):
            _print_error(f"{scenario.name}: left out, {reason}")
            continue
        plan = (
            scenarios.prolonged(scenario.plan, 6 * scenario.plan.seconds)
            if options.long
            else scenario.plan
        )
        plan = scenarios.shortened(plan) if options.quick else plan
        if options.seconds:
            plan = scenarios.prolonged(plan, options.seconds)
        if options.clients:
            plan = scenarios.resized(plan, options.clients)
        elif _files(plan) > most:
            _print_error(f"{scenario.name}: {most:,} open files allow no {plan.clients:,} clients")
            plan = scenarios.resized(plan, max(1, most * plan.clients // _files(plan)))
        if _files(plan) > most:
            raise BenchError(
                f"expected at most {most} clients (open files: {most + SPARE_FILES}), "
                f"got {_files(plan)}"
            )
        limits = {} if options.quick else scenario.limits_of
        chosen.append(msgspec.structs.replace(scenario, plan=plan, limits_of=limits))
    if not chosen:
        raise BenchError("expected a scenario that can be measured here, got none")
    return chosen


def _files(plan: Plan) -> int:
    """The connections at once: a churn has as many again as stay connected."""
    return plan.clients * (2 if plan.work == "churn" else 1)


def _most_clients() -> int:
    """The clients that the hard limit of open files allows. Raises the soft limit, also for child processes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard - SPARE_FILES


def _run(
    chosen: Sequence[Scenario], contestants: Sequence[Contestant], rounds: int
) -> list[Result]:
    """Alternates servers within each round, so that other load on the machine affects them alike."""
    turns = [
        (number, scenario, server)
        for number in range(1, rounds + 1)
        for scenario in chosen
        for server in contestants
    ]
    results = []
    for done, (number, scenario, server) in enumerate(turns):
        where = f"{scenario.name}, {server.name}, round {number}"
        results.append(
            measure(
                scenario,
                server,
                number,
                on_phase=lambda phase, where=where, done=done: _progress(  # type: ignore[misc]
                    done, len(turns), f"{where}: {phase}"
                ),
            )
        )
    _clear_progress()
    return results


def _progress(done: int, turns: int, text: str) -> None:
    """Shows a progress bar and the phase in one line, on a terminal only."""
    if sys.stderr.isatty():
        full = BAR * done // turns
        bar = "█" * full + "░" * (BAR - full)
        sys.stderr.write(f"\r\x1b[K{bar} {done}/{turns} {text}")
        sys.stderr.flush()


def _clear_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


def _print_error(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
