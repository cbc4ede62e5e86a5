"""The share of the work that is sampled."""

import random
import sys

import pytest

from catenary.tracing.sampler import sampler


def test_a_ratio_of_one_samples_everything() -> None:
    sample = sampler(1)
    assert all(sample() for _ in range(1000))


def test_a_ratio_of_zero_samples_nothing() -> None:
    sample = sampler(0)
    assert not any(sample() for _ in range(100_000))


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
def test_the_share_of_samples_is_the_ratio(ratio: float) -> None:
    sample = sampler(ratio, random.Random(1).random)
    calls = 200_000
    found = sum(sample() for _ in range(calls)) / calls
    # Five standard deviations of a binomial distribution.
    assert abs(found - ratio) < 5 * (ratio * (1 - ratio) / calls) ** 0.5


def test_a_ratio_near_zero_samples_hardly_ever() -> None:
    sample = sampler(5e-324)
    assert not any(sample() for _ in range(1000))


def test_work_that_is_not_sampled_runs_no_python_code() -> None:
    sample = sampler(0.01, lambda: 0.9)
    calls: list[str] = []
    sample()
    sys.setprofile(lambda frame, event, _: calls.append(event))
    sample()
    sys.setprofile(None)
    assert "call" not in calls


def test_samples_do_not_depend_on_each_other() -> None:
    sample = sampler(0.5, random.Random(1).random)
    pairs = [(sample(), sample()) for _ in range(40_000)]
    assert 9_500 < pairs.count((True, True)) < 10_500
