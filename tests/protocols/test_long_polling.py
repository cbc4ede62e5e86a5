"""Ids of long-polling sessions, and messages between the nodes of a session and of its client."""

import json

import pytest

from catenary.protocols.long_polling import node_of, poll_id, received_number, session_expired
from catenary.protocols.relayed_polls import Answered, Lost, Part, Refused, Relayed, pack, unpack


def test_an_id_names_its_node() -> None:
    assert node_of(poll_id("0123456789abcdef", "A-_z09")) == "0123456789abcdef"


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".b", "a b.c", "a.b\n", "é.b", "a.b.c", "x" * 65 + ".y"]
)
def test_other_texts_name_none(text: str) -> None:
    assert node_of(text) == ""


def test_the_number_of_a_response_may_be_missing_or_nonsense() -> None:
    assert received_number("17") == 17
    for text in ("", "-1", "1.0", "x", "9" * 19, "1 "):
        assert received_number(text) is None


def test_a_session_that_has_expired() -> None:
    assert json.loads(session_expired()) == {
        "type": "disconnect",
        "reason": "session_expired",
        "reconnect": True,
    }


@pytest.mark.parametrize(
    "message",
    [
        Relayed("n", 1, "n.s", None, b"\xff\n"),
        Relayed("n", 2**40, "n.s", 7, b""),
        Lost("n", 1, "n.s"),
        Part("n", 1, bytes(range(256))),
        Answered("n", 1, 200, 256, 3),
        Refused("n", 1),
    ],
)
def test_messages_between_nodes_are_read_as_they_were_written(message: Relayed) -> None:
    assert unpack(pack(message)) == message


@pytest.mark.parametrize(
    "packed", [b"", b"\xc1", b"\x91" * 5_000, pack(["poll", "n"]), pack("poll")]
)
def test_anything_else_is_one_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match="expected a message about a poll"):
        unpack(packed)


@pytest.mark.parametrize("node", ["", "a b", "a\r\nPUB b 1\r\nx", "a.b", ">", "é", "a" * 65])
def test_a_message_of_a_node_that_is_none(node: str) -> None:
    """The answer would be sent to that name: it must not end a subject of NATS."""
    with pytest.raises(ValueError, match="matching regex"):
        unpack(pack(Lost(node, 1, "0123456789abcdef.abc")))
