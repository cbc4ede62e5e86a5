"""The share of the work that is sampled."""

import random

import pytest

from catenary.tracing.sampler import Sampler


def test_a_ratio_of_one_samples_everything() -> None:
    sample = Sampler(1)
    assert all(sample() for _ in range(1000))


def test_a_ratio_of_zero_samples_nothing() -> None:
    sample = Sampler(0)
    assert not any(sample() for _ in range(100_000))


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
def test_the_share_of_samples_is_the_ratio(ratio: float) -> None:
    sample = Sampler(ratio, random.Random(1).random)
    calls = 200_000
    found = sum(sample() for _ in range(calls)) / calls
    # Five standard deviations of a binomial distribution.
    assert abs(found - ratio) < 5 * (ratio * (1 - ratio) / calls) ** 0.5


def test_samples_do_not_depend_on_each_other() -> None:
    sample = Sampler(0.5, random.Random(1).random)
    pairs = [(sample(), sample()) for _ in range(40_000)]
    assert 9_500 < pairs.count((True, True)) < 10_500
