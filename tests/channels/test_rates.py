"""Rates: how they are written, and which calls they allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary import Cable, Channel, action
from catenary.channels.errors import DeclarationError, RateLimited
from catenary.channels.rates import Limiter, Rate, parse_rate
from catenary.channels.testing import TestCable
from tests.channels.room import User
from tests.parts.heart import in_loop


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/s", Rate(5, 1)),
        ("100/m", Rate(100, 60)),
        ("1/h", Rate(1, 3600)),
        ("20/10s", Rate(20, 10)),
        ("3/2m", Rate(3, 120)),
    ],
)
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "5", "5/", "0/s", "5/0s", "-1/s", "5/d", "5/s ", "x/s", "5/1.5s"]
)
def test_an_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(DeclarationError, match="expected a rate"):
        parse_rate(text)


def test_the_whole_number_may_be_used_at_once_and_then_one_call_per_share() -> None:
    limiter, rate = Limiter(), Rate(5, 1)
    assert [limiter.allows("jack", rate, 10.0) for _ in range(6)] == [True] * 5 + [False]
    assert limiter.allows("jack", rate, 10.2)
    assert not limiter.allows("jack", rate, 10.2)
    assert limiter.allows("jill", rate, 10.2), "everybody has a number of their own"
    assert [limiter.allows("jack", rate, 20.0) for _ in range(6)] == [True] * 5 + [False]


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 7))
def test_no_period_has_more_than_twice_the_number(gaps: list[float], count: int) -> None:
    limiter, rate, now, allowed = Limiter(), Rate(count, 1), 0.0, []
    for gap in gaps:
        now += gap
        if limiter.allows("jack", rate, now):
            allowed.append(now)
    for moment in allowed:
        assert sum(moment <= each < moment + 1 for each in allowed) <= 2 * count


def test_callers_of_an_earlier_period_are_forgotten() -> None:
    limiter, rate = Limiter(), Rate(5, 1)
    for number in range(5_000):
        limiter.allows(number, rate, number / 10)
    assert len(limiter) <= 1_024 + 1


@in_loop
async def test_a_rate_of_a_channel_counts_all_its_actions_together() -> None:
    class Busy(Channel[User], rate="3/s"):
        @action
        async def one(self) -> None: ...

        @action(rate="1/s")
        async def other(self) -> None: ...

    now = [100.0]
    cable = TestCable(Cable(connection=User, channels=[Busy], clock=lambda: now[0]))
    connection = await cable.connect(user_id=1)
    busy, second = await connection.subscribe(Busy), await connection.subscribe(Busy, two=2)
    await busy.perform("one")
    await busy.perform("other")
    with pytest.raises(RateLimited, match=r"Busy\.other: expected at most 1 in 1 s, got more"):
        await busy.perform("other")
    with pytest.raises(RateLimited, match=r"Busy: expected at most 3 in 1 s, got more"):
        await busy.perform("one")
    await second.perform("other")
    now[0] += 1
    await busy.perform("other")
    cable.close()
