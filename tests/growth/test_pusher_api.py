"""Requests to Pusher's HTTP API, and channels of a node: many of them, or large ones."""

import asyncio
import json

import pytest

from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.none import NoInterest
from catenary.auth.pusher import PusherSignatures
from catenary.auth.pusher_requests import SignatureError, SignedRequest, verified_parameters
from catenary.errors import RequestRefused
from catenary.messages.names import Sid, Stream
from catenary.node.occupancy import ObservedInterest, Occupancy
from catenary.node.turns import Turns
from catenary.protocols.pusher_rest import read_batch, read_event
from tests.growth.measure import Case, Work, assert_near_linear

SIGNATURES = PusherSignatures("key", "secret")
LIMIT = 10**9


class Counting:
    """Satisfies :class:`catenary.node.occupancy.OccupancyObserver`, and counts the occupied streams."""

    def __init__(self) -> None:
        self.number = 0

    def occupied(self, stream: Stream) -> None:
        self.number += 1

    def vacated(self, stream: Stream) -> None: ...
    def counted(self, stream: Stream, subscribers: int) -> None: ...
    def wants_count(self, stream: Stream) -> bool:
        return True


def an_event_with_much_data(size: int) -> Work:
    body = json.dumps({"name": "n", "channel": "c", "data": 'a"\ud83c\n' * size}).encode()
    return lambda: read_event(body, LIMIT)


def a_body_with_many_fields(size: int) -> Work:
    body = json.dumps({"name": "n", "channel": "c", "data": "d", "x": [{"y": 1}] * size}).encode()
    return lambda: read_event(body, LIMIT)


def too_many_channels(size: int) -> Work:
    body = json.dumps({"name": "n", "channels": ["c"] * (size + 200), "data": "d"}).encode()
    return lambda: _refused(body)


def too_many_events(size: int) -> Work:
    events = [{"name": "n", "channel": "c", "data": "d"}] * (size + 20)
    body = json.dumps({"batch": events}).encode()

    def work() -> None:
        with pytest.raises(RequestRefused):
            read_batch(body, LIMIT)

    return work


def _refused(body: bytes) -> None:
    with pytest.raises(RequestRefused):
        read_event(body, LIMIT)


def a_long_query(size: int) -> Work:
    request = SignedRequest("GET", "/apps/a/" + "%41" * size, "info=" + "%42" * size)

    def work() -> None:
        with pytest.raises(SignatureError):
            verified_parameters(request, SIGNATURES, 0)

    return work


def many_parameters(size: int) -> Work:
    request = SignedRequest("GET", "/", "&".join(f"{number}=1" for number in range(size)))

    def work() -> None:
        with pytest.raises(SignatureError):
            verified_parameters(request, SIGNATURES, 0)

    return work


def channels_that_come_and_go(size: int) -> Work:
    streams = [Stream(f"s{number}") for number in range(size)]

    async def come_and_go() -> None:
        subscribers = dict.fromkeys(streams, 1)
        counting = Counting()
        interest = ObservedInterest(NoInterest(), lambda _: True)
        occupancy = Occupancy(
            LocalPresence(ttl_s=60, clock=lambda: 0.0),
            interest,
            counting,
            subscribers=lambda stream: subscribers.get(stream, 0),
            turns=Turns(1_000, asyncio.get_running_loop().call_soon),
            name=Sid("n"),
        )
        await occupancy.start()
        for stream in streams:
            interest.listen(stream)
        occupancy.count()
        while counting.number < size:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert await occupancy.streams() == set(streams)
        subscribers.clear()
        for stream in streams:
            interest.unlisten(stream)
        await occupancy.close(60)
        assert await occupancy.streams() == set()

    return come_and_go


CASES = (
    an_event_with_much_data,
    a_body_with_many_fields,
    too_many_channels,
    too_many_events,
    a_long_query,
    many_parameters,
    channels_that_come_and_go,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_work_grows_with_the_input(case: Case) -> None:
    assert_near_linear(case)
