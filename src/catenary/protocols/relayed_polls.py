"""Messages between two nodes about a long-polling request: one has its session, the other the connection of its client.

Knows: MessagePack. Does not know: sessions, connections, how messages travel.
"""

from typing import Final

import msgspec

from catenary.messages.lenient_json import JSON_ERRORS
from catenary.messages.nodes import NodeId


class _Message(msgspec.Struct, array_like=True, gc=False):
    """A message about one request. Its client is connected to the node ``node``, which has numbered it."""

    node: NodeId
    number: int


class Relayed(_Message, tag="poll"):
    """The request; ``received`` is the number of the last response that its client has received, None if it does not say."""

    poll_id: str
    received: int | None
    body: bytes


class Arrived(_Message, tag="arrived"):
    """The response has reached the client's machine, and its connection is not broken; the reply to :class:`Asked`."""

    poll_id: str


class Delivered(_Message, tag="delivered"):
    """The response has reached the client, or a proxy before it."""

    poll_id: str


class Lost(_Message, tag="lost"):
    """The client has gone without the response."""

    poll_id: str


class Confirmed(_Message, tag="confirmed"):
    """The node of the session has received the request."""


class Part(_Message, tag="part"):
    """Some messages of the response, in order."""

    messages: bytes


class Answered(_Message, tag="answered"):
    """The response, whose messages are in the parts before; ``size`` is theirs in bytes."""

    status: int
    size: int
    response_number: int


class Asked(_Message, tag="asked"):
    """The next request has come: has the response to this one arrived?"""


class Refused(_Message, tag="refused"):
    """The session can't take the request now: 503."""


ToOwner = Relayed | Arrived | Delivered | Lost
"""Messages to the node of the session."""

ToRelay = Confirmed | Part | Answered | Asked | Refused
"""Messages to the node of the client."""

pack: Final = msgspec.msgpack.Encoder().encode

_unpack: Final = msgspec.msgpack.Decoder(
    Relayed | Arrived | Delivered | Lost | Confirmed | Part | Answered | Asked | Refused
).decode


def unpack(packed: bytes) -> ToOwner | ToRelay:
    """Raises ValueError for anything that is no such message."""
    try:
        message: ToOwner | ToRelay = _unpack(packed)
    except JSON_ERRORS as error:
        raise ValueError(f"expected a message about a poll: {error}") from error
    return message
