"""``python -m tests.faults``: every fault on every engine, and a table of the results."""

import argparse
import asyncio
import sys
import traceback

import uvloop

from tests.faults.catalogue import ENGINES
from tests.faults.injections import FAULTS
from tests.faults.runs import Load, run
from tests.faults.verdict import Verdict, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="may be repeated")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="may be repeated")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clients", type=int, default=Load.clients)
    parser.add_argument("--streams", type=int, default=Load.streams)
    parser.add_argument("--quiet-streams", type=int, default=Load.quiet_streams)
    parser.add_argument(
        "--per-second", type=float, default=Load.per_second, help="messages to each stream"
    )
    chosen = parser.parse_args()
    load = Load(chosen.clients, chosen.streams, chosen.quiet_streams, chosen.per_second)
    verdicts = []
    failed = 0
    for engine in chosen.engine or ENGINES:
        for fault in chosen.fault or FAULTS:
            if engine not in FAULTS[fault].engines:
                continue
            for _ in range(chosen.rounds):
                try:
                    verdicts.append(uvloop.run(_one(engine, fault, load)))
                except (OSError, RuntimeError, TimeoutError):
                    # The cluster did not start, or admitted no client: the other runs go on.
                    failed += 1
                    print(f"{engine}, {fault}: no verdict", file=sys.stderr)
                    traceback.print_exc()
                else:
                    _report(verdicts[-1])
    print(table(verdicts))
    return 0 if failed == 0 and all(verdict.is_good for verdict in verdicts) else 1


def _report(verdict: Verdict) -> None:
    print(table([verdict]).splitlines()[-1], file=sys.stderr, flush=True)
    for example in (*verdict.examples[:5], *verdict.readiness.problems):
        print(f"    {example}", file=sys.stderr, flush=True)


async def _one(engine: str, fault: str, load: Load) -> Verdict:
    async with asyncio.timeout(600):
        return await run(ENGINES[engine], FAULTS[fault], load)


if __name__ == "__main__":
    sys.exit(main())
