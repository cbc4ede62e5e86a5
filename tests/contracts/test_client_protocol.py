"""The contracts of ClientProtocol and Codec, run over every protocol of the table.

A protocol joins by a row of ``PROTOCOLS``, with a function that reads what its codec writes.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from catenary.errors import CommandError
from catenary.messages.names import Identifier, Sid
from catenary.messages.presence import Member
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Ping,
    Pong,
    PresenceState,
    Rejected,
    Reply,
    Welcome,
)
from catenary.ports import SLICE_BYTES, Codec
from catenary.protocols import table
from catenary.protocols.table import ClientProtocol
from catenary.wire.frames import Close, FrameReader, close_frame, unmask
from tests.parts.binary_cable import EXTENDED_PROTOBUF, MESSAGE_PACK, PROTOBUF

Written = dict[str, Any]
"""A message of the server: ``type``, ``identifier``, ``message`` as Action Cable names them."""


class Case(NamedTuple):
    """One protocol, how a client reads its payloads, and what is no message of it."""

    protocol: ClientProtocol
    read: Callable[[bytes], Written]
    garbage: Sequence[bytes]


REPLIES: list[Reply] = [
    Welcome(Sid("s")),
    Ping(1),
    Pong(),
    Confirmed(Identifier('{"channel":"é"}')),
    Rejected(Identifier("x")),
    Disconnected(Reason.SERVER_RESTART, True),
    Delivery(Identifier("x"), b"1", "whisper"),
]

JSON_GARBAGE = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"1",
    b"[" * 100_000,
    b'{"command":"subscribe","identifier":' + b"[" * 50_000,
    b'{"command":{}}',
    b'{"command":"no such command"}',
]

GARBAGE = [b"", b"\x00", b"\xff\xfe", b"\xc1" * 9, b"\x91" * 100_000, b"\x12\x01\x01"]

PROTOCOLS = {
    "actioncable-v1-json": Case(table.ACTION_CABLE_JSON, json.loads, JSON_GARBAGE),
    "actioncable-v1-ext-json": Case(table.ACTION_CABLE_EXTENDED_JSON, json.loads, JSON_GARBAGE),
    "actioncable-v1-msgpack": Case(table.ACTION_CABLE_MESSAGE_PACK, MESSAGE_PACK.read, GARBAGE),
    "actioncable-v1-ext-msgpack": Case(
        table.ACTION_CABLE_EXTENDED_MESSAGE_PACK, MESSAGE_PACK.read, GARBAGE
    ),
    "actioncable-v1-protobuf": Case(table.ACTION_CABLE_PROTOBUF, PROTOBUF.read, GARBAGE),
    "actioncable-v1-ext-protobuf": Case(
        table.ACTION_CABLE_EXTENDED_PROTOBUF, EXTENDED_PROTOBUF.read, GARBAGE
    ),
    "actioncable-unsupported": Case(table.ACTION_CABLE_UNSUPPORTED, json.loads, JSON_GARBAGE),
}

ROWS = [each for each in vars(table).values() if isinstance(each, ClientProtocol)]


@pytest.fixture(params=list(PROTOCOLS))
def case(request: pytest.FixtureRequest) -> Case:
    return PROTOCOLS[request.param]


@pytest.fixture
def codec(case: Case) -> Codec:
    return case.protocol.codec()


def test_every_row_of_the_table_is_here() -> None:
    assert [each.protocol for each in PROTOCOLS.values()] == ROWS


def test_subprotocols_are_tokens_and_name_one_protocol_each() -> None:
    names = [name for protocol in ROWS for name in protocol.subprotocols]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)


def test_a_codec_is_shared_unless_it_has_state(case: Case) -> None:
    protocol = case.protocol
    assert (protocol.codec() is protocol.codec()) is not protocol.has_state


def test_what_is_not_a_command_is_a_command_error(case: Case, codec: Codec) -> None:
    for garbage in case.garbage:
        with pytest.raises(CommandError, match="expected"):
            codec.decode(garbage)


def test_a_text_protocol_writes_utf8(case: Case, codec: Codec) -> None:
    if not case.protocol.is_binary:
        for reply in REPLIES:
            (codec.encode(reply) or b"").decode()


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_every_reply_is_bytes_or_nothing_and_always_the_same(codec: Codec, reply: Reply) -> None:
    encoded = codec.encode(reply)
    assert encoded is None or isinstance(encoded, bytes)
    assert codec.encode(reply) == encoded


def test_a_transmission_says_what_the_application_wrote(case: Case, codec: Codec) -> None:
    written = codec.encode_transmission('{"identifier":"x","message":{"as":"it came é"}}')
    assert written is not None
    read = case.read(written)
    assert (read["identifier"], read["message"]) == ("x", {"as": "it came é"})


@pytest.mark.parametrize("kind", ["", "whisper"])
@pytest.mark.parametrize("message", [b"1", b'"x"', b"{}", '{"é":["\U0001f600"]}'.encode()])
def test_both_ways_to_encode_a_delivery_agree(
    case: Case, codec: Codec, message: bytes, kind: str
) -> None:
    delivery = Delivery(Identifier('{"channel":"a \\"b\\""}'), message, kind)
    assert codec.encode(delivery) == codec.encode_delivery(delivery)
    read = case.read(codec.encode_delivery(delivery))
    assert (read["identifier"], read["message"]) == (delivery.identifier, json.loads(message))


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_goodbye_is_a_legal_close_frame(codec: Codec, reason: Reason) -> None:
    goodbye = codec.goodbye(reason)
    assert goodbye.reason is reason
    sent = close_frame(goodbye.code, goodbye.text)
    (close,) = FrameReader(0).receive(
        bytes((sent[0], sent[1] | 0x80)) + b"mask" + unmask(sent[2:], b"mask")
    )
    assert close == Close(goodbye.code, goodbye.text), "whole, and a code that may be sent"


MEMBERS = tuple(Member(f"é{number}", f'{{"n":{number}}}') for number in range(1_000))


@pytest.mark.parametrize(
    "state",
    [
        PresenceState(Identifier("x"), 0, ()),
        PresenceState(Identifier("x"), 3, None),
        PresenceState(Identifier("é"), 1, MEMBERS[:1]),
        PresenceState(Identifier("x"), len(MEMBERS), MEMBERS),
        PresenceState(Identifier("x"), 2, (Member("a", f'"{"x" * 100_000}"'), *MEMBERS[:1])),
    ],
    ids=["empty", "count", "one", "many", "large"],
)
def test_the_pieces_of_a_reply_are_the_reply(codec: Codec, state: PresenceState) -> None:
    assert b"".join(codec.encode_pieces(state)) == codec.encode(state)


def test_a_reply_that_is_no_more_than_a_slice_is_one_piece(codec: Codec) -> None:
    for state in (
        PresenceState(Identifier("x"), 0, ()),
        PresenceState(Identifier("x"), 3, MEMBERS[:3]),
    ):
        assert len(list(codec.encode_pieces(state))) == 1


def test_many_members_are_written_in_pieces_of_a_slice(codec: Codec) -> None:
    sizes = [
        len(each) for each in codec.encode_pieces(PresenceState(Identifier("x"), 1_000, MEMBERS))
    ]
    assert len(sizes) > 5
    assert max(sizes) < 2 * SLICE_BYTES
