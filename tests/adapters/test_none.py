"""Without a broker: what would need one says so, once, with the flag that brings one."""

import logging
from collections.abc import Callable

import pytest

from catenary.adapters.none import NoHistory, NoPresence
from catenary.errors import LostPosition
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position

STREAM, SID = Stream("news"), Sid("ann")


def since() -> Callable[[], object]:
    history = NoHistory()
    return lambda: history.since(STREAM, 1)


def after() -> Callable[[], object]:
    history = NoHistory()
    return lambda: history.after(STREAM, Position("e", 1))


def join() -> Callable[[], object]:
    presence = NoPresence()
    return lambda: presence.join(STREAM, SID, "ann", "{}")


def members() -> Callable[[], object]:
    presence = NoPresence()
    return lambda: presence.members(STREAM)


@pytest.mark.parametrize("question", [since, after, join, members])
def test_the_first_question_is_logged(
    question: Callable[[], Callable[[], object]], caplog: pytest.LogCaptureFixture
) -> None:
    ask = question()
    with caplog.at_level(logging.WARNING, "catenary.node"):
        for _ in range(3):
            try:
                answer = ask()
            except LostPosition:
                continue
            assert not answer
    (line,) = caplog.messages
    assert line.endswith("needs a broker: --presets=broker")


def test_calls_that_need_no_broker_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    presence = NoPresence()
    presence.leave(STREAM, SID)
    presence.touch([SID])
    assert presence.expire() == ()
    assert caplog.messages == []
