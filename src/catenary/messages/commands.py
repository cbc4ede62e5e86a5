"""What a client may say.

Source: Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io. The last two are not a
client's own words: a codec or a transport adds them, to be carried out in the order of the client's commands.
"""

from collections.abc import Callable
from typing import final

import msgspec

from catenary.messages.names import Identifier
from catenary.messages.publications import Position


class HistoryRequest(msgspec.Struct, frozen=True):
    """What a client has missed: everything behind a position, for streams that have one; for the
    others everything since a moment (seconds since the epoch), where there is one."""

    since_s: int | None = None
    positions: dict[str, Position] = {}


class Join(msgspec.Struct, frozen=True, gc=False):
    """Wants to be seen on a subscription's stream, as the member ``id``; ``info`` is JSON text."""

    identifier: Identifier
    id: str
    info: str


@final
class Subscribe(msgspec.Struct, frozen=True):
    """Asks for a subscription, and for what is to follow a confirmation."""

    identifier: Identifier
    history: HistoryRequest | None = None
    join: Join | None = None


@final
class Unsubscribe(msgspec.Struct, frozen=True, gc=False):
    """Gives a subscription back."""

    identifier: Identifier


@final
class Perform(msgspec.Struct, frozen=True, gc=False):
    """Calls an action of a channel; ``data`` is JSON text that only the application reads."""

    identifier: Identifier
    data: str


class Whisper(msgspec.Struct, frozen=True, gc=False):
    """Speaks to the other subscribers of a stream; ``data`` is JSON text."""

    identifier: Identifier
    data: str


@final
class ReadHistory(msgspec.Struct, frozen=True):
    """Asks for what was missed on a subscription's streams."""

    identifier: Identifier
    request: HistoryRequest


class Leave(msgspec.Struct, frozen=True, gc=False):
    """Wants to be seen on a subscription's stream no longer."""

    identifier: Identifier


class ReadPresence(msgspec.Struct, frozen=True, gc=False):
    """Asks who is seen on a subscription's stream, or only how many."""

    identifier: Identifier
    with_records: bool = True


@final
class ClientPing(msgspec.Struct, frozen=True, gc=False):
    """Asks for a pong."""


@final
class ClientPong(msgspec.Struct, frozen=True, gc=False):
    """Answers a ping."""


@final
class DirectReply(msgspec.Struct, frozen=True, gc=False):
    """Sends ``payload`` back: what a codec answers by itself, encoded and not yet framed."""

    payload: bytes


@final
class CloseConnection(msgspec.Struct, frozen=True, gc=False):
    """Ends the connection: the client sent a message that its protocol forbids.

    ``code`` and ``text`` are the protocol's own close code and reason, such as 4400 of graphql-ws.
    """

    code: int
    text: str


@final
class Checkpoint(msgspec.Struct, frozen=True):
    """Calls ``reached`` when everything before it has been carried out; never for a session that has
    ended by then."""

    reached: Callable[[], None]


Command = (
    Subscribe
    | Unsubscribe
    | Perform
    | Whisper
    | ReadHistory
    | Join
    | Leave
    | ReadPresence
    | ClientPing
    | ClientPong
    | DirectReply
    | CloseConnection
    | Checkpoint
)
