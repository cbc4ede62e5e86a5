"""The benchmark of Catenary, alone or side by side with anycable-go.

    python -m bench [--only NAME] [--clients N] [--rounds N] [--quick] [--json FILE]

ANYCABLE_GO names the binary to compare with; without it, Catenary is measured alone. Exit status 0
where everything arrived once and in order, 1 where something did not, 2 where nothing could be
measured.
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

from bench import report, scenarios, servers
from bench.scenarios import Result, Scenario
from bench.servers import BenchError, Contestant, Cores

SPARE_FILES: Final = 200
"""Open files of a server beside its clients."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if not sys.platform.startswith("linux"):
            raise BenchError(f"expected Linux, which has /proc, got {sys.platform}")
        contestants = _contestants()
        chosen = _chosen(options)
        _raise_open_files(max(scenario.plan.clients for scenario in chosen))
        machine = report.this_machine()
        results = _run(chosen, contestants, options.rounds or (1 if options.quick else 3))
    except BenchError as error:
        _tell(f"bench: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    complete = report.is_complete(results)
    sys.stdout.write(report.table(chosen, results, contestants) + "\n")
    if options.json:
        document = report.Document(
            machine=machine,
            servers=contestants,
            rows=report.rows(chosen, results),
            results=tuple(results),
            complete=complete,
        )
        text = msgspec.json.format(msgspec.json.encode(document), indent=1)
        options.json.write_bytes(text + b"\n")
    return 0 if complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{each.name:9} {each.summary}" for each in scenarios.SCENARIOS),
    )
    names = [scenario.name for scenario in scenarios.SCENARIOS]
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument("--clients", type=_positive, help="instead of each scenario's own number")
    parser.add_argument("--rounds", type=_positive, help="default: 3, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="a trial: small numbers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as data")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def _contestants() -> tuple[Contestant, ...]:
    ours = Contestant(report.OURS, (sys.executable, "-m", "catenary"))
    theirs = os.environ.get("ANYCABLE_GO")
    if not theirs:
        return (ours,)
    path = shutil.which(theirs)
    if path is None:
        raise BenchError(f"expected ANYCABLE_GO to be a program, got {theirs}")
    return ours, Contestant(report.THEIRS, (path,))


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios in the sizes asked for. Raises BenchError where none is left."""
    chosen = []
    for scenario in scenarios.SCENARIOS:
        if options.only and scenario.name not in options.only:
            continue
        if scenario.needs_application and not scenarios.has_grpc():
            _tell(f"{scenario.name}: left out, it needs grpcio")
            continue
        plan = scenarios.quickened(scenario.plan) if options.quick else scenario.plan
        if options.clients:
            plan = scenarios.resized(plan, options.clients)
        chosen.append(msgspec.structs.replace(scenario, plan=plan))
    if not chosen:
        raise BenchError("expected a scenario that can be measured here, got none")
    return chosen


def _raise_open_files(clients: int) -> None:
    """To the hard limit, for the processes started here. Raises BenchError where it is too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and clients + SPARE_FILES > hard:
        raise BenchError(
            f"expected at most {hard - SPARE_FILES} clients (open files: {hard}), got {clients}"
        )


def _run(
    chosen: Sequence[Scenario], contestants: Sequence[Contestant], rounds: int
) -> list[Result]:
    """Servers take turns within each round, so that what else the machine does meets them alike."""
    cores: Cores = servers.split_cores()
    turns = [
        (number, scenario, server)
        for number in range(1, rounds + 1)
        for scenario in chosen
        for server in contestants
    ]
    results = []
    for done, (number, scenario, server) in enumerate(turns, 1):
        where = f"{done}/{len(turns)} {scenario.name}, {server.name}, round {number}"
        results.append(
            scenarios.measure(
                scenario,
                server,
                number,
                cores=cores,
                on_phase=lambda phase, where=where: _progress(f"{where}: {phase}"),  # type: ignore[misc]
            )
        )
    _progress("")
    return results


def _progress(text: str) -> None:
    """One line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
