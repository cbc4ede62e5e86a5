"""The contract of ClientProtocol, run over every protocol."""

import json

import pytest

from catenary.errors import CommandError
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Ping,
    Pong,
    Rejected,
    Reply,
    Welcome,
)
from catenary.ports import ClientProtocol
from catenary.protocols.actioncable import ActionCableV1
from catenary.wire.frames import Close, FrameReader, close_frame, unmask

PROTOCOLS: dict[str, ClientProtocol] = {"actioncable-v1-json": ActionCableV1()}

REPLIES: list[Reply] = [
    Welcome(Sid("s")),
    Ping(1),
    Pong(),
    Confirmed(Identifier('{"channel":"é"}')),
    Rejected(Identifier("x")),
    Disconnected(Reason.SERVER_RESTART, True),
    Delivery(Identifier("x"), b"1", "whisper"),
]

GARBAGE = [
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


@pytest.fixture(params=list(PROTOCOLS))
def protocol(request: pytest.FixtureRequest) -> ClientProtocol:
    return PROTOCOLS[request.param]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:20]))
def test_what_is_no_command_is_a_command_error(protocol: ClientProtocol, garbage: bytes) -> None:
    with pytest.raises(CommandError, match="expected"):
        protocol.decode(garbage)


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_every_reply_is_bytes_or_nothing_and_always_the_same(
    protocol: ClientProtocol, reply: Reply
) -> None:
    encoded = protocol.encode(reply)
    assert encoded is None or isinstance(encoded, bytes)
    assert protocol.encode(reply) == encoded


def test_a_transmission_says_what_the_application_wrote(protocol: ClientProtocol) -> None:
    assert json.loads(protocol.encode_transmission('{"as":"it came é"}')) == {"as": "it came é"}


@pytest.mark.parametrize("kind", ["", "whisper"])
@pytest.mark.parametrize("message", [b"1", b'"x"', b"{}", '{"é":["\U0001f600"]}'.encode()])
def test_both_ways_to_encode_a_delivery_agree(
    protocol: ClientProtocol, message: bytes, kind: str
) -> None:
    delivery = Delivery(Identifier('{"channel":"a \\"b\\""}'), message, kind)
    assert protocol.encode(delivery) == protocol.encode_delivery(delivery)
    assert json.loads(message) == json.loads(protocol.encode_delivery(delivery))["message"]


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_goodbye_is_a_legal_close_frame(protocol: ClientProtocol, reason: Reason) -> None:
    goodbye = protocol.goodbye(reason)
    assert goodbye.reason is reason
    sent = close_frame(goodbye.code, goodbye.text)
    (close,) = FrameReader(0).receive(
        bytes((sent[0], sent[1] | 0x80)) + b"mask" + unmask(sent[2:], b"mask")
    )
    assert close == Close(goodbye.code, goodbye.text), "whole, and a code that may be sent"
