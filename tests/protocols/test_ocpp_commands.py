"""Remote commands for a station: one at a time."""

from catenary.protocols.ocpp_commands import (
    ANSWER_TIMEOUT_S,
    LATE_LIMIT,
    WAITING_LIMIT,
    RemoteCommands,
)
from tests.parts.stations import Clock


def test_a_command_is_sent_when_the_one_before_is_answered() -> None:
    commands = RemoteCommands(Clock(), lambda: None)
    assert commands.put("1", b"a") == b"a"
    assert commands.put("2", b"b") is None
    assert commands.put("3", b"c") is None
    assert not commands.is_answered_by("2")
    assert commands.next() is None
    assert commands.is_answered_by("1")
    assert commands.next() == b"b"
    assert not commands.is_answered_by("1"), "each is answered once"
    assert commands.is_answered_by("2")
    assert commands.next() == b"c"
    assert commands.is_answered_by("3")
    assert commands.next() is None
    assert commands.put("4", b"d") == b"d"


def test_an_answer_is_not_awaited_for_ever() -> None:
    clock = Clock()
    commands = RemoteCommands(clock, lambda: None)
    assert commands.put("1", b"a") == b"a"
    clock.now = ANSWER_TIMEOUT_S
    assert commands.put("2", b"b") is None
    clock.now += 1
    assert commands.put("3", b"c") == b"b", "in order"
    assert commands.next() is None
    assert commands.is_answered_by("1"), "late"
    assert not commands.is_answered_by("1")
    assert commands.next() is None, "a late answer does not end the command under way"
    clock.now += ANSWER_TIMEOUT_S + 1
    assert commands.next() == b"c"


def test_commands_beyond_the_limit_are_refused() -> None:
    refused: list[None] = []
    commands = RemoteCommands(Clock(), lambda: refused.append(None))
    for number in range(WAITING_LIMIT + 3):
        commands.put(str(number), b"%d" % number)
    assert len(refused) == 2, "one is under way, the others wait"
    for number in range(WAITING_LIMIT):
        assert commands.is_answered_by(str(number))
        assert commands.next() == b"%d" % (number + 1)
    assert commands.next() is None


def test_answers_that_are_late_are_not_awaited_for_ever() -> None:
    clock = Clock()
    commands = RemoteCommands(clock, lambda: None)
    for number in range(LATE_LIMIT + 2):
        assert commands.put(str(number), b"x") == b"x"
        clock.now += ANSWER_TIMEOUT_S + 1
    assert not commands.is_answered_by("0")
    assert all(commands.is_answered_by(str(number)) for number in range(1, LATE_LIMIT + 2))
