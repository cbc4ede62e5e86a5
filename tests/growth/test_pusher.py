"""Pusher's protocol costs in proportion to what clients send and receive."""

import json

import pytest

from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.presence import Member
from catenary.messages.replies import Delivery, PresenceState
from tests.growth.measure import Case, Work, assert_near_linear
from tests.parts.pusher import pusher_protocol, subscription

SOCKET = "12.34"
CODEC = pusher_protocol().codec()


def read_all(*texts: str) -> Work:
    protocol = pusher_protocol()
    assert protocol.reader is not None
    read = protocol.reader(Environment(Sid(SOCKET), "/", {}))
    payloads = [text.encode() for text in texts]

    def work() -> None:
        for payload in payloads:
            read(payload)

    return work


def subscriptions(size: int) -> Work:
    return read_all(*(subscription(SOCKET, f"private-{number}") for number in range(size)))


def presence_channels(size: int) -> Work:
    """Their members are remembered for client events."""
    member = {"user_id": "7"}
    return read_all(*(subscription(SOCKET, f"presence-{number}", member) for number in range(size)))


def a_long_signed_text(size: int) -> Work:
    return read_all(subscription(SOCKET, "presence-x", {"user_id": "7", "x": "y" * size * 10}))


def a_long_event(size: int) -> Work:
    return read_all(json.dumps({"event": "x" * size * 10, "data": ["[" * size] * 10}))


def client_events(size: int) -> Work:
    return read_all(*['{"event":"client-x","channel":"private-x","data":1}'] * size)


def members(size: int) -> Work:
    state = PresenceState(
        Identifier("presence-x"), size, tuple(Member(str(each), '"\\""') for each in range(size))
    )
    return lambda: list(CODEC.encode_pieces(state))


def a_large_publication(size: int) -> Work:
    message = json.dumps({"event": "e", "data": ['"\\' * size] * 10}).encode()
    return lambda: CODEC.encode_delivery(Delivery(Identifier("news"), message))


@pytest.mark.parametrize(
    "case",
    [
        subscriptions,
        presence_channels,
        a_long_signed_text,
        a_long_event,
        client_events,
        members,
        a_large_publication,
    ],
)
def test_work_for_pusher_clients_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
