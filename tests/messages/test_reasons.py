"""The catalogue of goodbyes makes sense: to clients, and to RFC 6455."""

from collections import Counter

import pytest

from catenary.messages.reasons import Reason
from catenary.wire.frames import Close, FrameReader, close_frame, unmask

# Disconnect reasons of docs/misc/action_cable_protocol.md (docs.anycable.io) and anycable-go.
WIRE_REASONS = {
    "unauthorized",
    "token_expired",
    "server_restart",
    "remote",
    "idle_timeout",
    "no_pong",
    "too_slow",
}

COMES_BACK = {
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
}

each_reason = pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)


def test_no_reason_is_an_alias_of_another() -> None:
    assert list(Reason.__members__.values()) == list(Reason)
    assert Counter(reason.close_text for reason in Reason).most_common(1)[0][1] == 1


def test_messages_are_those_that_clients_know() -> None:
    assert {reason.wire for reason in Reason} - {None} == WIRE_REASONS


@each_reason
def test_whether_the_client_may_come_back(reason: Reason) -> None:
    assert reason.reconnect is COMES_BACK[reason]


@pytest.mark.parametrize(
    ("reason", "wire", "code", "text"),
    [
        (Reason.AUTH_FAILED, None, 1000, "Auth Failed"),
        (Reason.AUTH_ERROR, None, 1011, "Auth Error"),
        (Reason.COMMAND_FAILED, None, 1000, "Command Failed"),
        (Reason.SERVER_RESTART, "server_restart", 1001, "Server restart"),
        (Reason.REMOTE, "remote", 1000, "Closed remotely"),
    ],
)
def test_goodbyes_that_clients_of_anycable_go_know(
    reason: Reason, wire: str | None, code: int, text: str
) -> None:
    assert (reason.wire, reason.close_code, reason.close_text) == (wire, code, text)


@each_reason
def test_close_frame_is_legal_and_whole(reason: Reason) -> None:
    sent = close_frame(reason.close_code, reason.close_text)
    mask = b"mask"
    (close,) = FrameReader(0).receive(
        bytes((sent[0], sent[1] | 0x80)) + mask + unmask(sent[2:], mask)
    )

    assert close == Close(reason.close_code, reason.close_text)
