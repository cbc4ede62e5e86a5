"""``make fuzz``: so many inputs for each core, a line of progress, a table at the end.

``FUZZ_INPUTS`` is how many (a million), ``FUZZ_SEED`` makes the same ones again, and arguments
choose cores by a part of their names. The exit status is 1 where one has a fault.
"""

import os
import sys
import time
from random import Random
from typing import Final, NamedTuple

from tests.fuzz.cores import CORES, Core
from tests.fuzz.mutation import mutations

SLOWEST_S = 0.2
"""What no input of up to 64 KB may take, however it is split: microseconds for each byte, no more."""

SHOWN: Final = 1_000
"""Bytes of an input that a report repeats."""


class Outcome(NamedTuple):
    """What a run has shown. ``fault`` is empty where everything held."""

    inputs: int
    seconds: float
    slowest_s: float
    fault: str


def run(core: Core, inputs: int, seed: str, *, is_loud: bool = True) -> Outcome:
    """Tries a core until a fault, or to the end."""
    # A generator of the core's own: its inputs are the same whichever cores run before it.
    random = Random(f"{seed} {core.name}")
    mutated = mutations(core.seeds, core.words)
    began = told = time.perf_counter()
    slowest = 0.0
    for number in range(inputs):
        data = mutated(random)
        before = time.thread_time()
        try:
            core.check(data, random)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is a fault)
            fault = f"{type(error).__name__}: {error} for {_shown(data)} (input {number})"
            return Outcome(number + 1, time.perf_counter() - began, slowest, fault)
        now = time.thread_time()
        slowest = max(slowest, now - before)
        if now - before > SLOWEST_S:
            fault = f"{now - before:.2f} s for {_shown(data)} (input {number})"
            return Outcome(number + 1, time.perf_counter() - began, slowest, fault)
        if is_loud and number % 10_000 == 0 and time.perf_counter() - told > 5:
            told = time.perf_counter()
            print(f"{core.name}: {number:,} of {inputs:,}", file=sys.stderr, flush=True)
    return Outcome(inputs, time.perf_counter() - began, slowest, "")


def _shown(data: bytes) -> str:
    """The whole input, or its beginning and length: ``FUZZ_SEED`` makes it again."""
    return repr(data) if len(data) <= SHOWN else f"{data[:SHOWN]!r}… ({len(data):,} bytes)"


def main(names: list[str]) -> int:
    inputs = int(os.environ.get("FUZZ_INPUTS", "1000000"))
    seed = os.environ.get("FUZZ_SEED") or str(time.time_ns())
    chosen = [core for core in CORES if not names or any(name in core.name for name in names)]
    outcomes = {}
    for core in chosen:
        outcome = outcomes[core.name] = run(core, inputs, seed)
        print(f"{core.name}: {outcome.fault or 'held'}", file=sys.stderr, flush=True)
    print(f"\n{'core':<24}{'inputs':>12}{'seconds':>9}{'slowest':>10}  outcome   (seed {seed})")
    for name, outcome in outcomes.items():
        print(
            f"{name:<24}{outcome.inputs:>12,}{outcome.seconds:>9.0f}"
            f"{outcome.slowest_s * 1000:>7.1f} ms  {outcome.fault[:200] or 'held'}"
        )
    return int(any(outcome.fault for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
