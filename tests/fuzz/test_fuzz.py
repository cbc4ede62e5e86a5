"""What ``make fuzz`` does by the million, by the thousand; and that it would find something."""

import time
from random import Random

import pytest

from tests.fuzz.__main__ import run
from tests.fuzz.cores import CORES, Core
from tests.fuzz.mutation import STRETCHED, mutations

INPUTS = 3_000


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_a_core_holds(core: Core) -> None:
    assert run(core, INPUTS, "always the same", is_loud=False).fault == ""


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
def test_its_seeds_hold(core: Core) -> None:
    for seed in core.seeds:
        core.check(seed, Random(0))


def test_a_fault_is_found_and_told() -> None:
    def check(data: bytes, random: Random) -> None:
        assert b"\xff" not in data, "no such byte"

    outcome = run(Core("", [b"abc"], [], check), 10_000, "", is_loud=False)
    assert outcome.fault.startswith("AssertionError: no such byte")
    assert outcome.inputs < 10_000


def test_what_takes_long_is_found() -> None:
    def check(data: bytes, random: Random) -> None:
        until = time.thread_time() + (0.3 if len(data) > 10_000 else 0)
        while time.thread_time() < until:
            pass

    assert "0.3" in run(Core("", [b"abc"], [], check), 10_000, "", is_loud=False).fault


def test_inputs_are_almost_right_and_never_endless() -> None:
    seeds = [b"GET / HTTP/1.1", b"hello"]
    mutated = mutations(seeds, [b"word"])
    made = [mutated(Random(number)) for number in range(5_000)]
    assert max(map(len, made)) < 2 * STRETCHED
    assert sum(b"HTTP" in each for each in made) > 1_000
    assert sum(b"word" in each for each in made) > 200
    assert sum(each in seeds for each in made) < 1_000
