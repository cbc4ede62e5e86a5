"""Messages between the nodes of a cluster: which nodes exist, questions to them and their answers.

Nodes of several versions run side by side during an upgrade. A node ignores a message of a type that it does not know,
and fields at the end of a message that it does not know.
Knows: MessagePack. Does not know: what is asked, how messages travel.
"""

from typing import Final

import msgspec

from catenary.messages.lenient_json import JSON_ERRORS
from catenary.messages.nodes import NodeEntry, NodeId

ANNOUNCE_S: Final = 3.0
"""The shortest interval of the announcements of a node, in seconds."""


class _Message(msgspec.Struct, array_like=True, gc=False):
    """``node`` is the id of the sender."""

    node: NodeId


class Announced(_Message, tag="here"):
    """The node is alive. ``interval_s`` is the time until it announces itself again, which earlier versions do not name."""

    entry: NodeEntry
    interval_s: float = ANNOUNCE_S


class Left(_Message, tag="left"):
    """The node shuts down."""


class Asked(_Message, tag="ask"):
    """A question, which the asking node has numbered."""

    number: int
    kind: str
    body: bytes


class Part(_Message, tag="part"):
    """A part of the answer to a question. Parts arrive in order."""

    number: int
    body: bytes


class Answered(_Message, tag="answer"):
    """The end of an answer: ``size`` is that of all its parts, in bytes; ``error`` says why there is no answer."""

    number: int
    size: int
    error: str = ""


class Sent(_Message, tag="send"):
    """A message that has no answer."""

    kind: str
    body: bytes


ClusterMessage = Announced | Left | Asked | Part | Answered | Sent

pack: Final = msgspec.msgpack.Encoder().encode

_unpack: Final = msgspec.msgpack.Decoder(Announced | Left | Asked | Part | Answered | Sent).decode


def unpack(packed: bytes) -> ClusterMessage:
    """Raises ValueError for anything that is no such message."""
    try:
        message: ClusterMessage = _unpack(packed)
    except JSON_ERRORS as error:
        raise ValueError(f"expected a message about the cluster: {error}") from error
    if isinstance(message, Announced) and message.entry.id != message.node:
        raise ValueError("expected a node that announces itself, got another one")
    return message
