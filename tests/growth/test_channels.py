"""The classes with which authors write applications."""

import asyncio

import pytest

from catenary.channels.call import Call
from catenary.channels.ended_subscriptions import EndedSubscriptions
from catenary.channels.subscription_key import SubscriptionKey
from catenary.channels.timers import ChannelTimer
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from tests.growth.measure import Case, Work, assert_near_linear


def keys_of(size: int) -> list[SubscriptionKey]:
    return [SubscriptionKey(Sid(f"sid-{number}"), Identifier("i")) for number in range(size)]


def a_method_starts_and_stops_streams(size: int) -> Work:
    call = Call(Environment(Sid("s"), "", {}), Identifier("i"), None)
    streams = [Stream(f"stream-{number}") for number in range(size)]

    def work() -> None:
        for each in streams:
            call.start(each, whisper=False, presence=False)
            call.transmit(each)
        for each in streams[::2]:
            call.stop(each)
        call.decision()

    return work


def a_timer_of_many_subscriptions(size: int) -> Work:
    interval_s = 0.01

    async def work() -> None:
        ran = 0
        done = asyncio.Event()

        def fire(key: SubscriptionKey) -> bool:
            nonlocal ran
            ran += 1
            timer.finish_run(key)
            if ran == 3 * size:
                done.set()
            return True

        timer = ChannelTimer(interval_s, fire)
        for each in keys_of(size):
            timer.add(each)
        await done.wait()
        timer.stop()

    return work


def subscriptions_end(size: int) -> Work:
    ended = EndedSubscriptions()
    keys = keys_of(size)

    def work() -> None:
        for each in keys:
            ended.add(each, 0)
        for each in keys:
            ended.pop(each)

    return work


@pytest.mark.parametrize(
    "case",
    [a_method_starts_and_stops_streams, a_timer_of_many_subscriptions, subscriptions_end],
)
def test_work_of_channels_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
