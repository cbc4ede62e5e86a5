"""MessagePack and Protobuf carry the messages of the JSON encoding, as clients' libraries write and read them."""

import contextlib
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import CommandError
from catenary.messages.commands import Command
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import Member
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
    PresenceState,
    PresenceUnknown,
    Rejected,
    Reply,
    Welcome,
)
from catenary.protocols import protobuf, table
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.actioncable_msgpack import packed
from tests.parts.binary_cable import ENCODINGS, read_protobuf, write_protobuf

CODECS = {name: table.ACTION_CABLE.choose([name])[0].codec() for name in ENCODINGS}
JSON = ActionCableJson()
CHAT = Identifier('{"channel":"ChatChannel","name":"é"}')

REPLIES: list[Reply] = [
    Welcome(Sid("s-1")),
    Welcome(Sid("s-1"), ()),
    Welcome(Sid("s-1"), (CHAT, Identifier(""))),
    Ping(1_795_373_743),
    Ping(1_795_373_743_000_000_001),
    Pong(),
    Confirmed(CHAT),
    Rejected(CHAT),
    HistoryConfirmed(CHAT),
    HistoryRejected(CHAT),
    PresenceState(CHAT, 2, (Member("1", '{"name":"Ann"}'), Member("2", "null"))),
    PresenceState(CHAT, 70_000, None),
    PresenceUnknown(CHAT),
    Disconnected(Reason.SERVER_RESTART, True),
    Disconnected("of its own", False),
    Delivery(CHAT, '{"text":"hé","n":[1,-2,2.5,null,true]}'.encode()),
    Delivery(CHAT, b'"x"', "", Stream("chat"), Position("e1", 2**40)),
    Delivery(CHAT, b'{"type":"join","id":"1"}', "presence"),
    Delivery(CHAT, b"[" + b"1," * 40_000 + b"1]"),
]


def known_to_protobuf(name: str, message: dict[str, Any]) -> dict[str, Any]:
    """The fields of the schema; an empty field is absent."""
    extended = ("stream_id", "epoch", "offset", "sid", "restored", "restored_ids")
    return {
        field: value
        for field, value in message.items()
        if (value or field == "message")
        and ("-ext-" in name or field not in extended)
        and not (field == "type" and value not in {"presence", *KINDS})
    }


KINDS = [
    "welcome",
    "ping",
    "pong",
    "disconnect",
    "confirm_subscription",
    "reject_subscription",
    "confirm_history",
    "reject_history",
]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
@pytest.mark.parametrize("name", ENCODINGS)
def test_every_reply_has_the_content_of_the_json_encoding(name: str, reply: Reply) -> None:
    expected = json.loads(JSON.encode(reply) or b"")
    if "protobuf" in name:
        expected = known_to_protobuf(name, expected)
    assert ENCODINGS[name].read(CODECS[name].encode(reply) or b"") == expected


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_disconnect_without_a_word_is_not_written(name: str) -> None:
    assert CODECS[name].encode(Disconnected(Reason.AUTH_FAILED, False)) is None


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"welcome","sid":"s"}', {"type": "welcome", "sid": "s"}),
        (
            '{"type":"confirm_subscription","identifier":"i"}',
            {"type": "confirm_subscription", "identifier": "i"},
        ),
        ('{"identifier":"i","message":{"a":[]}}', {"identifier": "i", "message": {"a": []}}),
        (
            '{"type":"disconnect","reason":"unauthorized","reconnect":false}',
            {"type": "disconnect", "reason": "unauthorized", "reconnect": False},
        ),
    ],
)
def test_transmissions_are_encoded_again(name: str, text: str, expected: dict[str, Any]) -> None:
    if "protobuf" in name:
        expected = known_to_protobuf(name, expected)
    assert ENCODINGS[name].read(CODECS[name].encode_transmission(text) or b"") == expected


@pytest.mark.parametrize("name", ENCODINGS)
def test_text_that_is_no_message_is_not_sent(name: str) -> None:
    assert CODECS[name].encode_transmission("[") is None


# Messages of clients

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Protobuf carries data as JSON or as text: an empty text is no data, one that is JSON becomes its value.
    | st.text(alphabet="é😀 x", min_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
_positions = st.fixed_dictionaries(
    {"epoch": st.text(max_size=5), "offset": st.integers(-(2**63), 2**63 - 1)}
)
_histories = st.fixed_dictionaries(
    {"since": st.integers(1, 2**62), "streams": st.dictionaries(st.text(max_size=5), _positions)}
)
_presences = st.fixed_dictionaries({"id": st.text(min_size=1, max_size=5), "info": _values})


@st.composite
def _said(draw: st.DrawFn) -> dict[str, Any]:
    names = ["subscribe", "unsubscribe", "message", "history", "whisper", "join", "leave"]
    command = draw(st.sampled_from([*names, "presence", "pong", "ping"]))
    said: dict[str, Any] = {"command": command, "identifier": draw(st.text())}
    if command == "message":
        said["data"] = draw(st.text())
    elif command == "whisper":
        said["data"] = draw(_values)
    elif command == "presence":
        said["data"] = {"return_records": draw(st.booleans())}
    if command == "history" or (command == "subscribe" and draw(st.booleans())):
        said["history"] = draw(_histories)
    if command == "join" or (command == "subscribe" and draw(st.booleans())):
        said["presence"] = draw(_presences)
    return said


def comparable(command: Command | tuple[Command, ...] | None) -> Any:
    """JSON in a command by its value: encodings may write one number in several ways."""
    assert isinstance(command, msgspec.Struct)
    fields = {name: getattr(command, name) for name in command.__struct_fields__}
    for name in ("data", "info"):
        if name in fields and type(command).__name__ != "Perform":
            fields[name] = json.loads(fields[name])
    if fields.get("join") is not None:
        fields["join"] = comparable(fields["join"])
    return type(command), fields


@given(said=_said())
@pytest.mark.parametrize("name", ENCODINGS)
def test_a_command_is_the_same_in_every_encoding(name: str, said: dict[str, Any]) -> None:
    expected = JSON.decode(json.dumps(said).encode())
    assert comparable(CODECS[name].decode(ENCODINGS[name].write(said))) == comparable(expected)


@pytest.mark.parametrize("name", ENCODINGS)
@given(payload=st.binary())
def test_whatever_a_client_sends_is_a_command_or_a_command_error(name: str, payload: bytes) -> None:
    with contextlib.suppress(CommandError):
        CODECS[name].decode(payload)


@pytest.mark.parametrize(
    "payload",
    [
        msgspec.msgpack.encode({"command": "subscribe", "identifier": 5}),
        b"\x81\x93\x01\x02\x03\x01",  # an array as a key
        b"\x82\xa7command\xa7whisper\xa4data\xd4\x05\x00",  # an extension type as data
        b"\x91" * 100_000,
        b"\x81\xa4data" + b"\x91" * 100_000,
        msgspec.msgpack.encode(["subscribe"]),
        b"\xc1",
        b"",
    ],
)
def test_a_map_that_is_no_message_is_a_command_error(payload: bytes) -> None:
    with pytest.raises(CommandError, match="expected"):
        CODECS["actioncable-v1-msgpack"].decode(payload)


@pytest.mark.parametrize(
    "payload",
    [
        write_protobuf({"command": "unknown_command"}),
        protobuf.number(2, 99),
        b"\x10\x01\x1a\xff",  # a text that is longer than the message
        b"\x10\x01\x1a\x01\xff",  # a text that is no UTF-8
        b"\x10\x01\x18\x01",  # a number where a text belongs
        b"\x12\x01\x01",  # and the reverse
        b"\x10" + b"\xff" * 11,
        b"\x10\x01\x0b",  # a group
        b"\x10\x01\x02\x00",  # field 0
        b"\x10\x04\x42\x02\x12\x05",
        b"",
    ],
)
def test_bytes_that_are_no_message_are_a_command_error(payload: bytes) -> None:
    with pytest.raises(CommandError, match="expected"):
        CODECS["actioncable-v1-protobuf"].decode(payload)


def test_fields_of_later_versions_are_skipped() -> None:
    unknown = b"\xf8\x07\x01" + b"\x7d\x00\x00\x00\x00" + b"\x79" + bytes(8) + b"\x7a\x03abc"
    codec = CODECS["actioncable-v1-protobuf"]
    said = {"command": "unsubscribe", "identifier": "i"}
    assert codec.decode(unknown + write_protobuf(said)) == JSON.decode(json.dumps(said).encode())


def test_a_text_that_is_no_json_is_whispered_as_a_text() -> None:
    said = {"command": "whisper", "identifier": "i", "data": "good morning"}
    decoded = CODECS["actioncable-v1-protobuf"].decode(write_protobuf(said))
    assert decoded == JSON.decode(json.dumps(said).encode())


# JSON in MessagePack


@given(value=_values)
def test_a_json_value_is_packed_as_it_is(value: object) -> None:
    assert msgspec.msgpack.decode(packed(json.dumps(value))) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (str(2**64), float(2**64)),
        (f'{{"n":[{-(2**70)}]}}', {"n": [float(-(2**70))]}),
        ("1" + "0" * 400, math.inf),
        ("-1" + "0" * 400, -math.inf),
        ("no JSON", "no JSON"),
    ],
)
def test_values_that_do_not_fit_into_message_pack(text: str, value: object) -> None:
    assert msgspec.msgpack.decode(packed(text)) == value


@pytest.mark.parametrize("inside", ["", str(2**70), r'"\ud83c"'])
def test_json_of_any_depth_is_packed(inside: str) -> None:
    """Where a value can't be made of it, or not be written, clients get its text."""
    for levels in (*range(300, 1_100, 7), 5_000):
        text = "[" * levels + inside + "]" * levels
        assert packed(text)[:1] in (b"\x91", b"\x90", b"\xda", b"\xdb", b"\xd9")


def test_the_client_of_the_plain_protocol_reads_a_message() -> None:
    raw = CODECS["actioncable-v1-protobuf"].encode(Confirmed(CHAT)) or b""
    assert read_protobuf(raw, is_extended=False)["identifier"] == CHAT
