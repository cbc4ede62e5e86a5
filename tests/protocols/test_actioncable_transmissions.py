"""Messages that an application wrote itself, for clients of other encodings."""

import pytest

from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Position
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    HistoryConfirmed,
    HistoryRejected,
    Ping,
    Pong,
    Rejected,
    Reply,
    Welcome,
)
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.actioncable_transmissions import read_reply

CHAT = Identifier('{"channel":"ChatChannel","id":42}')


@pytest.mark.parametrize(
    "reply",
    [
        Welcome(Sid("s")),
        Welcome(Sid("s"), ()),
        Welcome(Sid("s"), (CHAT, Identifier("x"))),
        Ping(1_700_000_000),
        Pong(),
        Confirmed(CHAT),
        Rejected(CHAT),
        HistoryConfirmed(CHAT),
        HistoryRejected(CHAT),
        Disconnected(Reason.SERVER_RESTART, True),
        Disconnected(Reason.UNAUTHORIZED, False),
        Disconnected("maintenance", True),
        Delivery(CHAT, b'{"a":[1]}'),
        Delivery(CHAT, b"null"),
        Delivery(CHAT, b'"x"', "whisper"),
        Delivery(CHAT, b"1", "", Stream("s"), Position("e", 7)),
    ],
    ids=repr,
)
def test_encoded_replies_are_read_again(reply: Reply) -> None:
    written = ActionCableJson().encode(reply)
    assert written is not None
    assert read_reply(written.decode()) == reply


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ('{"type":"welcome"}', Welcome(Sid(""))),
        ('{"type":"disconnect"}', Disconnected("", False)),
        ('{"type":"ping","message":"x"}', None),
        ('{"type":"confirm_subscription"}', Confirmed(Identifier(""))),
        ('{"type":"news","message":1}', Delivery(Identifier(""), b"1", "news")),
        ('{"identifier":"i","message":{"a":1},"more":2}', Delivery(Identifier("i"), b'{"a":1}')),
        ('{"identifier":null,"message":1,"type":null}', Delivery(Identifier(""), b"1")),
        ('{"stream_id":"s","message":1}', Delivery(Identifier(""), b"1")),
        ("{}", Delivery(Identifier(""), b"null")),
        ("", None),
        ("[]", None),
        ("1", None),
        ('{"type":1}', None),
        ('{"identifier":{}}', None),
        ('{"message":' + "[" * 50_000, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_transmissions_in_unusual_forms(text: str, reply: Reply | None) -> None:
    assert read_reply(text) == reply
