"""What an application's author writes with."""

import asyncio

import pytest

from catenary.channels.call import Call
from catenary.channels.endings import Endings
from catenary.channels.timers import Beat, Place
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from tests.growth.measure import Case, Work, assert_near_linear


def places(size: int) -> list[Place]:
    return [Place(Sid(f"sid-{number}"), Identifier("i")) for number in range(size)]


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

        def run(place: Place) -> bool:
            nonlocal ran
            ran += 1
            beat.ran(place)
            if ran == 3 * size:
                done.set()
            return True

        beat = Beat(interval_s, run)
        for each in places(size):
            beat.begin(each)
        await done.wait()
        beat.stop()

    return work


def subscriptions_end(size: int) -> Work:
    endings = Endings()
    ended = places(size)

    def work() -> None:
        for each in ended:
            endings.note(each, 0)
        for each in ended:
            endings.forget(each)

    return work


@pytest.mark.parametrize(
    "case",
    [a_method_starts_and_stops_streams, a_timer_of_many_subscriptions, subscriptions_end],
)
def test_work_of_channels_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
