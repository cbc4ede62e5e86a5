"""Figures that are computed from samples."""

import pytest

from bench.measure import _growth
from bench.plan import Plan
from bench.scenarios import Sample


def sample(name: str, pss_kb: int, blocks: int | None = None) -> Sample:
    return Sample(name=name, at_s=0, cpu_s=0, pss_kb=pss_kb, load_cpu_s=0, blocks=blocks)


def test_growth_is_the_difference_between_two_rests() -> None:
    samples = [
        sample("warm-up", 900),
        sample("rest", 500, blocks=1000),
        sample("cycle", 950),
        sample("cycle", 960),
        sample("rest", 504, blocks=1030),
    ]
    assert _growth(Plan(clients=10, work="churn"), samples) == {
        "cycles": 2,
        "growth_kb_per_cycle": 2.0,
        "blocks_per_client": pytest.approx(1.5),
    }


def test_without_counts_of_blocks_their_growth_is_left_out() -> None:
    samples = [sample("rest", 500), sample("cycle", 500), sample("rest", 500)]
    assert _growth(Plan(clients=10, work="churn"), samples) == {
        "cycles": 1,
        "growth_kb_per_cycle": 0.0,
    }


def test_an_interrupted_soak_has_no_growth() -> None:
    assert _growth(Plan(clients=10, work="churn"), [sample("warm-up", 900)]) == {}
