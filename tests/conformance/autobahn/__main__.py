"""Plays every case and prints a line for each, then a table.

    python -m tests.conformance.autobahn [NUMBER ...]

With numbers, or beginnings of them (``6.4``), only those. Ends with 1 where a case failed.
"""

import sys
import time
from collections import Counter

from tests.conformance.autobahn.cases import CASES, CATEGORIES, category, echo_server
from tests.conformance.autobahn.play import Case, Verdict, run

FAILED = "FAILED"
VERDICTS = [*(verdict.value for verdict in Verdict), FAILED]


def main(wanted: list[str]) -> int:
    """Returns the exit status."""
    counts: dict[str, Counter[str]] = {number: Counter() for number in CATEGORIES}
    cases = [case for case in CASES if not wanted or any(_is_of(case, each) for each in wanted)]
    with echo_server() as port:
        for case in cases:
            began = time.monotonic()
            verdict = _verdict(case, port)
            took_ms = (time.monotonic() - began) * 1000
            print(f"{case.number:8} {verdict:13} {took_ms:6.0f} ms  {case.title[:100]}", flush=True)
            counts[category(case)][verdict] += 1
    print_table(counts)
    return 1 if any(count[FAILED] for count in counts.values()) else 0


def _is_of(case: Case, wanted: str) -> bool:
    return case.number == wanted or case.number.startswith(f"{wanted}.")


def _verdict(case: Case, port: int) -> str:
    try:
        return run(case, port).value
    except (AssertionError, OSError) as error:
        print(f"{case.number:8} {error!r}")
        return FAILED


def print_table(counts: dict[str, Counter[str]]) -> None:
    """Categories down, verdicts across."""
    print()
    print(f"{'':30}{'cases':>7}" + "".join(f"{verdict:>15}" for verdict in VERDICTS))
    total: Counter[str] = Counter()
    for number, count in counts.items():
        print(_row(f"{number:>2}  {CATEGORIES[number]}", count))
        total += count
    print(_row("    all", total))


def _row(name: str, count: Counter[str]) -> str:
    return f"{name:30}{count.total():7}" + "".join(f"{count[each]:15}" for each in VERDICTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
