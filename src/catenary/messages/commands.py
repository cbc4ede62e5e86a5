"""The commands of a client.

Source: Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io. The last four are not sent by
clients: a codec or a transport adds them, to be executed in the order of the client's commands.
"""

from collections.abc import Callable
from typing import final

import msgspec

from catenary.messages.names import Identifier
from catenary.messages.publications import Position


class HistoryRequest(msgspec.Struct, frozen=True):
    """Asks for missed messages: of streams with a position, those after it; of other streams, those since a time
    (seconds since 1970), if there is one. ``newest`` limits the latter to this number of the newest messages."""

    since_s: int | None = None
    positions: dict[str, Position] = {}
    newest: int | None = None


class Join(msgspec.Struct, frozen=True, gc=False):
    """Joins the presence of a subscription's stream as the member ``id``; ``info`` is JSON text.

    With ``is_bound``, the member leaves when its connection is lost, not when its time to live has passed, and only
    others are notified that it has joined.
    """

    identifier: Identifier
    id: str
    info: str
    is_bound: bool = False


@final
class Subscribe(msgspec.Struct, frozen=True):
    """Asks for a subscription; after its confirmation, for the history, and to join its presence.

    With ``reads_members``, to join first, then for the members, then for the history. Messages that are published meanwhile
    follow these answers.
    """

    identifier: Identifier
    history: HistoryRequest | None = None
    join: Join | None = None
    reads_members: bool = False


@final
class Unsubscribe(msgspec.Struct, frozen=True, gc=False):
    """Ends a subscription."""

    identifier: Identifier


@final
class Perform(msgspec.Struct, frozen=True, gc=False):
    """Calls an action of a channel; ``data`` is JSON text that only the application reads."""

    identifier: Identifier
    data: str


class Whisper(msgspec.Struct, frozen=True, gc=False):
    """Sends a message to the other subscribers of a stream; ``data`` is JSON text."""

    identifier: Identifier
    data: str


@final
class ReadHistory(msgspec.Struct, frozen=True):
    """Asks for the missed messages of a subscription's streams."""

    identifier: Identifier
    request: HistoryRequest


class Leave(msgspec.Struct, frozen=True, gc=False):
    """Leaves the presence of a subscription's stream."""

    identifier: Identifier


class ReadPresence(msgspec.Struct, frozen=True, gc=False):
    """Asks for the members of a subscription's stream, or only for their number."""

    identifier: Identifier
    with_records: bool = True


@final
class ClientPing(msgspec.Struct, frozen=True, gc=False):
    """Asks for a pong."""


@final
class ClientPong(msgspec.Struct, frozen=True, gc=False):
    """Answers a ping."""


@final
class Identify(msgspec.Struct, frozen=True, gc=False):
    """Gives the session connection identifiers, instead of those with which it was admitted: remote disconnects of them
    close it. A codec adds it when the client has proved who it is."""

    identifiers: str


@final
class DirectReply(msgspec.Struct, frozen=True, gc=False):
    """Sends ``payload``, which is encoded and not yet framed: the answer of a codec, without the node.

    ``refused`` says why the codec has refused the client's message; empty if it has not.
    """

    payload: bytes
    refused: str = ""


@final
class CloseConnection(msgspec.Struct, frozen=True, gc=False):
    """Ends the connection: the client sent a message that its protocol forbids.

    ``code`` and ``text`` are the protocol's own close code and reason, such as 4400 of graphql-ws.
    """

    code: int
    text: str


@final
class Checkpoint(msgspec.Struct, frozen=True):
    """Calls ``reached`` when all commands before it have been executed; never if the session has ended by then.

    Commands that it returns are executed next: those of a codec that depend on the outcome of the commands before.
    """

    reached: Callable[[], "Command | tuple[Command, ...] | None"]


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
    | Identify
    | DirectReply
    | CloseConnection
    | Checkpoint
)
