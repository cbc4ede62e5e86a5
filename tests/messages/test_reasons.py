"""Reasons: none is an alias of another, and each says whether the client may reconnect."""

import pytest

from catenary.messages.reasons import Reason

RECONNECTS = {
    Reason.AUTH_FAILED: False,
    Reason.AUTH_ERROR: True,
    Reason.COMMAND_FAILED: True,
    Reason.SERVER_RESTART: True,
    Reason.REMOTE: True,
    Reason.SLOW_CLIENT: True,
    Reason.IDLE_TIMEOUT: False,
    Reason.NO_PONG: True,
    Reason.RESUMED: True,
    Reason.UNAUTHORIZED: False,
    Reason.TOKEN_EXPIRED: False,
    Reason.INVALID_MESSAGE: False,
    Reason.TOO_MANY_CONNECTIONS: True,
    Reason.TOO_MANY_COMMANDS: True,
}


def test_no_reason_is_an_alias_of_another() -> None:
    assert list(Reason.__members__.values()) == list(Reason)
    assert len({reason.description for reason in Reason}) == len(Reason)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_whether_the_client_may_reconnect(reason: Reason) -> None:
    assert reason.reconnect is RECONNECTS[reason]
