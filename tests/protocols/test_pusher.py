"""Pusher's events, as the server writes them."""

import json
from typing import Any

import pytest

from catenary.messages.names import Identifier, Sid
from catenary.messages.presence import Member
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    HistoryConfirmed,
    HistoryRejected,
    Ping,
    Pong,
    PresenceState,
    PresenceUnknown,
    Rejected,
    Reply,
    Welcome,
)
from catenary.protocols.pusher import PusherCodec, PusherRefusal

CODEC = PusherCodec(30)
CHAT = Identifier("private-chat")


def written(reply: Reply) -> Any:
    payload = CODEC.encode(reply)
    return None if payload is None else json.loads(payload)


def test_the_connection_is_established_with_a_socket_id() -> None:
    message = written(Welcome(Sid("1.2")))
    assert message["event"] == "pusher:connection_established"
    assert json.loads(message["data"]) == {"socket_id": "1.2", "activity_timeout": 30}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Ping(1), {"event": "pusher:ping", "data": "{}"}),
        (Pong(), {"event": "pusher:pong", "data": "{}"}),
        (
            Confirmed(CHAT),
            {
                "event": "pusher_internal:subscription_succeeded",
                "channel": "private-chat",
                "data": "{}",
            },
        ),
        (
            Rejected(CHAT),
            {
                "event": "pusher:subscription_error",
                "channel": "private-chat",
                "data": {
                    "type": "LimitReached",
                    "error": "The subscription exceeds a limit of the server",
                    "status": 429,
                },
            },
        ),
        (
            PresenceUnknown(Identifier("presence-x")),
            {
                "event": "pusher:subscription_error",
                "channel": "presence-x",
                "data": {
                    "type": "ServerError",
                    "error": "The members of the channel could not be read",
                    "status": 503,
                },
            },
        ),
        (HistoryConfirmed(CHAT), None),
        (
            HistoryConfirmed(CHAT, is_empty=True),
            {"event": "pusher:cache_miss", "channel": "private-chat", "data": "{}"},
        ),
        (
            HistoryRejected(CHAT),
            {"event": "pusher:cache_miss", "channel": "private-chat", "data": "{}"},
        ),
        (
            Disconnected(Reason.NO_PONG, reconnect=True),
            {
                "event": "pusher:error",
                "data": {"code": 4201, "message": "Pong reply not received in time"},
            },
        ),
        (Disconnected(Reason.INVALID_MESSAGE, reconnect=False), None),
    ],
)
def test_replies(reply: Reply, message: object) -> None:
    assert written(reply) == message


def test_clients_reconnect_at_once_at_a_drain_and_not_after_a_remote_disconnect() -> None:
    codes = {reason: CODEC.goodbye(reason).code for reason in Reason}
    assert codes[Reason.SERVER_RESTART] == 4200
    assert codes[Reason.REMOTE] == 4009
    assert codes[Reason.NO_PONG] == 4201
    assert codes[Reason.IDLE_TIMEOUT] == 4202
    assert all(4000 <= code < 4300 for code in codes.values())
    assert all(code >= 4100 for reason, code in codes.items() if reason is Reason.SLOW_CLIENT)


def delivered(message: object, channel: str = "private-chat", kind: str = "") -> Any:
    text = json.dumps(message).encode()
    payload = CODEC.encode_delivery(Delivery(Identifier(channel), text, kind))
    return None if payload is None else json.loads(payload)


@pytest.mark.parametrize(
    ("published", "name", "data"),
    [
        ({"event": "new", "data": '{"a":1}'}, "new", '{"a":1}'),
        ({"event": "new", "data": "text"}, "new", "text"),
        ({"event": "new", "data": {"a": 1}}, "new", '{"a": 1}'),
        ({"event": "new", "data": None}, "new", "null"),
        ({"event": "new"}, "new", '{"event": "new"}'),
        ({"text": "Hi"}, "message", '{"text": "Hi"}'),
        ("Hi", "message", "Hi"),
        (["Hi"], "message", '["Hi"]'),
        ({"event": 7, "data": 1}, "message", '{"event": 7, "data": 1}'),
        ({"event": "", "data": 1}, "message", '{"event": "", "data": 1}'),
    ],
)
def test_a_publication_is_an_event_whose_data_is_text(
    published: object, name: str, data: str
) -> None:
    assert delivered(published) == {"event": name, "channel": "private-chat", "data": data}


@pytest.mark.parametrize("name", ["pusher:error", "pusher_internal:subscription_succeeded"])
def test_a_publication_can_not_imitate_events_of_the_protocol(name: str) -> None:
    assert delivered({"event": name, "data": "{}"})["event"] == "message"


def test_a_client_event_names_the_member_who_sent_it() -> None:
    published = {"event": "client-typing", "data": "{}", "user_id": "7"}
    assert delivered(published, "presence-chat")["user_id"] == "7"
    assert "user_id" not in delivered({**published, "event": "new"}, "presence-chat")


def test_changes_of_members() -> None:
    joined = delivered({"type": "join", "id": "7", "info": {"n": 1}}, "presence-x", "presence")
    assert joined["event"] == "pusher_internal:member_added"
    assert json.loads(joined["data"]) == {"user_id": "7", "user_info": {"n": 1}}
    left = delivered({"type": "leave", "id": "7"}, "presence-x", "presence")
    assert left["event"] == "pusher_internal:member_removed"
    assert json.loads(left["data"]) == {"user_id": "7"}
    assert delivered({"type": "other", "id": "7"}, "presence-x", "presence") is None
    assert delivered("nonsense", "presence-x", "presence") is None
    # Action Cable clients of the same stream may have members; this channel has none.
    assert delivered({"type": "join", "id": "7"}, "private-x", "presence") is None


@pytest.mark.parametrize("number", [0, 1, 3, 2_000])
def test_members_confirm_a_presence_channel(number: int) -> None:
    members = tuple(Member(f'"{each}"', f'{{"n":"\\u00e9 {each}"}}') for each in range(number))
    message = written(PresenceState(Identifier("presence-x"), number, members))
    assert message["event"] == "pusher_internal:subscription_succeeded"
    assert json.loads(message["data"]) == {
        "presence": {
            "count": number,
            "ids": [each.id for each in members],
            "hash": {each.id: json.loads(each.info) for each in members},
        }
    }


def test_a_refusal_has_one_code_for_every_reason() -> None:
    codec = PusherRefusal(4001, "The app does not exist")
    assert codec.encode(Welcome(Sid("1.2"))) is None
    error = json.loads(codec.encode(Disconnected(Reason.AUTH_FAILED, reconnect=False)) or b"")
    assert error == {
        "event": "pusher:error",
        "data": {"code": 4001, "message": "The app does not exist"},
    }
    assert {codec.goodbye(reason).code for reason in Reason} == {4001}
