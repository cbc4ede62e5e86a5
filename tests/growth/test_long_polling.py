"""Long polling: what grows with the number of sessions, and with what their requests and responses contain."""

import json
from collections.abc import Callable

import pytest

from catenary.edge.request import Peer
from catenary.transports.long_polling import PollSession
from catenary.transports.long_polling_endpoint import PollServices
from catenary.transports.polls import PollResponse
from catenary.wire.http1 import RequestHead
from tests.growth.measure import Work, assert_near_linear
from tests.growth.test_turns import until_idle
from tests.parts.heart import Heart, room
from tests.parts.long_polling import lines, poll_services

PEER = Peer("http", "127.0.0.1")


class MemoryPoll:
    """A request whose response is kept."""

    def __init__(self) -> None:
        self.response: PollResponse | None = None

    def answer(self, response: PollResponse) -> None:
        self.response = response

    def is_unread(self) -> bool:
        return False


def opened(services: PollServices, body: bytes = b"") -> PollSession:
    accepted = services.requests.accept(RequestHead("POST", "/lp", {}), PEER)
    session = services.begin(accepted, MemoryPoll(), body)  # type: ignore[arg-type]
    assert isinstance(session, PollSession)
    return session


def subscribe(size: int) -> bytes:
    return lines(*({"command": "subscribe", "identifier": room(str(each))} for each in range(size)))


def sessions_come_and_go(size: int) -> Work:
    services = poll_services(Heart())

    def work() -> None:
        for each in [opened(services) for _ in range(size)]:
            each.end()

    return work


def commands_in_a_body(size: int) -> Work:
    services, body = poll_services(Heart()), subscribe(size)
    return until_idle(lambda: opened(services, body))


def blank_lines_in_a_body(size: int) -> Work:
    services, body = poll_services(Heart()), b"\n" * size
    return until_idle(lambda: opened(services, body))


def messages_between_polls(size: int) -> Work:
    services = poll_services(Heart())
    session = opened(services)
    frame = json.dumps({"type": "x"}).encode() + b"\n"

    def work() -> None:
        for _ in range(size):
            session.write(frame)
        poll = MemoryPoll()
        session.poll(poll, None, b"")
        assert poll.response is not None
        assert len(poll.response.messages) == size * len(frame)

    return work


def polls_that_supersede_each_other(size: int) -> Work:
    session = opened(poll_services(Heart()))

    def work() -> None:
        for _ in range(size):
            session.poll(MemoryPoll(), None, b"")

    return work


@pytest.mark.parametrize(
    "build",
    [
        sessions_come_and_go,
        commands_in_a_body,
        blank_lines_in_a_body,
        messages_between_polls,
        polls_that_supersede_each_other,
    ],
)
def test_long_polling(build: Callable[[int], Work]) -> None:
    assert_near_linear(build)
