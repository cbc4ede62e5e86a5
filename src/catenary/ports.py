"""The ports: what the heart asks of the rooms around it, with the contract on each method.

Both sides import this file and not each other.
"""

from collections.abc import Awaitable, Callable, Collection, Generator, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from catenary.broker.revocations import Revocations
from catenary.messages.commands import Command
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.messages.publications import (
    Position,
    Publication,
    Publishable,
    QueueEntry,
    RemoteDisconnect,
)
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, PresenceState, Reply

_T = TypeVar("_T")


class Pending(Generic[_T]):
    """An awaitable that can be waited for without a task, which would cost more than what it waits for.

    Either it is awaited or :meth:`then` is called, once.
    """

    __slots__ = ()

    def then(self, hear: Callable[[_T | Exception], None]) -> None:
        """``hear`` is called once with what has come of it, later: never before this returns."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody waits any more: ``hear`` is not called."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, _T]:
        raise NotImplementedError


class Channels(Protocol):
    """Takes the decisions about subscriptions.

    A decision that needs no waiting is returned as it is, without a task; one that others bring
    may be :class:`Pending`, which needs none either. The node makes one call at a time for each
    session, in the order of the client's commands, and cancels the awaitable of a client that left. Methods and awaitables raise :class:`catenary.errors.AppError` where no
    decision could be had; nothing else.
    """

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """May it subscribe? A successful decision carries the streams and a confirmation."""
        ...

    def unsubscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """It gives a subscription back: the node stops its streams whatever is answered."""
        ...

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Decision | Awaitable[Decision]:
        """It calls an action; ``data`` is JSON text."""
        ...


class Application(Channels, Protocol):
    """Takes all decisions, under the contract of :class:`Channels`."""

    def connect(self, environment: Environment) -> Decision | Awaitable[Decision]:
        """May this client connect? A successful decision carries its identifiers.

        An awaitable that is cancelled while its question is under way may return the answer all the
        same: who was let in, and has left, is then ended like everybody else.
        """
        ...

    def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> Awaitable[None]:
        """The session is over. Called at most once for each."""
        ...


class Goodbye(msgspec.Struct, frozen=True, gc=False):
    """How a protocol ends a connection.

    ``code`` and ``text`` are those of a WebSocket close frame (RFC 6455, section 7.4). A transport
    without close frames derives what it has (an HTTP status, the end of a response) from ``reason``.
    """

    reason: Reason
    code: int
    text: str


SLICE_BYTES: Final = 32_768
"""About the size of a slice of a large answer, and of a piece of a large message: some 100 µs of the event loop."""


class Outbound(Protocol):
    """The sending side of one client's transport. The transport implements it; the session alone holds it."""

    write: Callable[[bytes], None]
    """Sends a batch: one framed message, or several joined. Each was framed by the session's encoder, and a
    transport that needs them apart finds their ends in that framing.

    Never calls back synchronously, never raises, does nothing after :meth:`close`."""

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        """Sends batches one by one, after everything written before and ahead of everything written later.

        Each is taken from the iterator when the client has read most of what is on its way to it, some in each turn of
        the event loop. None if all are sent; the awaitable is done when the last one is, or the
        connection has ended, and raises what the iterator raises.
        """
        ...

    def close(self, goodbye: Goodbye) -> None:
        """Ends the connection after everything written so far was sent. Only the first call counts."""
        ...

    def pause_reading(self) -> None:
        """Stops reading: the client has as many commands under way as it may. Calls are counted."""
        ...

    def resume_reading(self) -> None:
        """Undoes one :meth:`pause_reading`."""
        ...


class Waiting(Protocol):
    """A connection that waits for its client to speak."""

    def time_out(self) -> None:
        """The client took too long."""
        ...


class Watch(Protocol):
    """Ends connections on which nothing is said for too long."""

    def watch(self, connection: Waiting) -> None:
        """From now on its time runs; once more for one that is watched already."""
        ...

    def forget(self, connection: Waiting) -> None:
        """It has spoken, or it is gone; nothing happens for one that is not watched."""
        ...


class Codec(Protocol):
    """The messages of one client protocol: payloads ↔ commands and replies. Pure.

    A codec without state serves every session at once; one with state belongs to one session
    (:class:`catenary.protocols.table.ClientProtocol`).
    """

    def decode(self, payload: bytes) -> Command | tuple[Command, ...] | None:
        """Reads one message: what it asks for, in order; None if there is nothing to do.

        What the protocol answers by itself, without the node, is a
        :class:`catenary.messages.commands.DirectReply` among the commands. A message for which the protocol
        ends the connection is a :class:`catenary.messages.commands.CloseConnection`, with the close code of the protocol.
        Raises :class:`catenary.errors.CommandError` for one that is only ignored.
        """
        ...

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply; None if this protocol has no message for it."""
        ...

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """Writes a reply that may be large: one payload, in pieces of about :data:`SLICE_BYTES`, each written when
        it is asked for; no piece if this protocol has no message for it."""
        ...

    def encode_transmission(self, text: str) -> bytes | None:
        """Writes a message that the application wrote itself, in Action Cable's JSON; None if this protocol
        has none for it.

        Codecs other than Action Cable's JSON read it with
        :func:`catenary.protocols.actioncable_transmissions.read_reply` and encode the reply.
        """
        ...

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Writes a publication for one identifier: the hot path, called once for all sessions that share it."""
        ...

    def goodbye(self, reason: Reason) -> Goodbye:
        """How a connection ends for a reason of the server, or of a client that broke no rule of this protocol. A message
        that says so before, if this protocol has one, is the encoding of
        :class:`catenary.messages.replies.Disconnected`."""
        ...


class History(Protocol):
    """Reads the messages that were published to a stream and are still kept; :class:`PubSub` writes them.

    A remote history returns awaitables, which raise :class:`catenary.errors.BackendError` when it can't be reached.
    ``is_immediate`` says that every method returns a value. With a ``limit`` (1 or more), a read costs as much
    as what it returns, however long the history is.
    """

    is_immediate: bool

    def since(
        self, stream: Stream, moment_s: int, limit: int | None = None, *, newest: bool = False
    ) -> tuple[Publication, ...] | Awaitable[tuple[Publication, ...]]:
        """Returns the messages of a stream from a moment on (seconds since the epoch), oldest first.

        With a ``limit``, returns the first so many of them, or the last so many if ``newest``.
        """
        ...

    def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> tuple[Publication, ...] | Awaitable[tuple[Publication, ...]]:
        """Returns the messages after a position, oldest first; with a ``limit``, the first so many of them.

        Raises :class:`catenary.errors.LostPosition` if a message after the position is no longer kept:
        an incomplete history is never returned.
        """
        ...


class SessionCache(Protocol):
    """Sessions that may be resumed: each kept for a time after it was last saved or touched.

    ``is_shared`` says that other nodes see what is kept here: then sessions are kept while they
    live, too, so that they outlive their node. A cache that is not shared returns values.
    ``revocations`` are the remote disconnects that this node has received: :class:`PubSub` adds each
    before it delivers the command. Awaitables raise :class:`catenary.errors.BackendError`.
    """

    is_shared: bool
    revocations: Revocations

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> Awaitable[None] | None:
        """Keeps a session, in place of what was kept of it.

        One that is not new and not there any more was taken or has ended, and is not kept again.
        """
        ...

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> Awaitable[None] | None:
        """Replaces some lines of a snapshot that is kept, by their numbers from 0 on, or adds some behind.

        A snapshot may have several lines, with line feeds between them, and each may be kept by
        itself. Nothing happens for one that is not there any more. Needed where ``is_shared``.
        """
        ...

    def touch(self, sids: Collection[Sid]) -> Awaitable[None] | None:
        """Their time runs anew; nothing happens for one that is not kept."""
        ...

    def take(self, sid: Sid) -> bytes | Awaitable[bytes | None] | None:
        """Takes a session out, to resume it: of several who ask, one gets it. None where it is not there.

        Raises :class:`catenary.errors.NotCaughtUp` while this node may not know all revocations: then
        nothing was taken out.
        """
        ...

    def remove(self, sid: Sid) -> bytes | Awaitable[bytes | None] | None:
        """Takes a session out, to end it: the same, whichever revocations are known."""
        ...

    def expire(self) -> tuple[bytes, ...] | Awaitable[tuple[bytes, ...]]:
        """Takes out sessions whose time is over, some at a time; each is returned once, by one node. A cache
        that answers with a value is asked again in the next turn of the loop, until it returns none."""
        ...

    def give_up(self) -> tuple[bytes, ...]:
        """At the end of this node: takes out those that nobody can resume any more."""
        ...


class Presence(Protocol):
    """Who is on a stream: members by their id, each by way of one session or several.

    A session that is not touched for a time counts as gone. ``info`` is JSON text.
    """

    def join(
        self, stream: Stream, sid: Sid, member_id: str, info: str
    ) -> PresenceChange | Awaitable[PresenceChange | None] | None:
        """Adds a session to a member. What changed for others: a join, or the new info of a member
        who was there; None where nothing did."""
        ...

    def leave(
        self, stream: Stream, sid: Sid
    ) -> PresenceChange | Awaitable[PresenceChange | None] | None:
        """Takes a session from its member, who leaves with the last one."""
        ...

    def touch(self, sids: Collection[Sid]) -> Awaitable[None] | None:
        """These sessions are there: their time runs anew, on all their streams."""
        ...

    def members(self, stream: Stream) -> tuple[Member, ...] | Awaitable[tuple[Member, ...]]:
        """Who is there now, in the order in which they came."""
        ...

    def expire(self) -> tuple[PresenceChange, ...] | Awaitable[tuple[PresenceChange, ...]]:
        """Drops sessions whose time is over, some at a time, and returns the leaves; it tells nobody. One that
        answers with a value is asked again in the next turn of the loop, until it returns none."""
        ...


class Interest(Protocol):
    """Hears which streams the clients of this node listen to: it need not receive any other."""

    def listen(self, stream: Stream) -> None:
        """The first listener came."""
        ...

    def unlisten(self, stream: Stream) -> None:
        """The last listener has gone."""
        ...

    def when_live(self, streams: Collection[Stream]) -> Awaitable[None] | None:
        """None where everything published from now on arrives here, else something to wait for.

        The wait is over, too, when nothing can be had: what is published meanwhile is then caught
        up later. Never raises.
        """
        ...

    def has_arrived(self, stream: Stream, position: Position) -> bool:
        """Has everything up to a position arrived here? A history may be ahead of what arrives."""
        ...

    def call_when_arrived(
        self, stream: Stream, position: Position, call: Callable[[], None]
    ) -> None:
        """Calls once when everything up to a position has arrived, which it has not yet, or when nobody
        listens any more; never before this returns. Never raises."""
        ...


class PubSub(Protocol):
    """Keeps publications in the history, and carries them to every node, this one too.

    A remote disconnect revokes its identifiers before it is delivered (:class:`SessionCache`), on
    every node: also on one that was away when it was sent.

    Built with ``deliver``, which it calls for each publication in the order of its stream.
    """

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None] | None:
        """Gives each message its position, unless it is transient or nothing is kept, and hands
        all to the nodes, in order; None where that is done already.

        One stream's offsets are handed out in the order of the calls, and delivered in the order
        of the offsets, whichever nodes call. Awaiting raises
        :class:`catenary.errors.BackendError` for what could not be kept or sent.

        With the ``entry`` of a queue that they were read from, an engine that can tell publishes them
        once, however often it gets them; where it can't publish them, it does not publish entries of
        the same stream that were sent behind them and before they failed.
        """
        ...

    def relay(self, command: RemoteDisconnect) -> Awaitable[None] | None:
        """Sends a command that every node has received from its publisher, and relays: it takes
        effect once."""
        ...


class Observer(Protocol):
    """Is notified of what happens to the clients and publications of this node, for webhooks, tracing or a console.

    Called in the middle of the work, in the event loop: methods return at once and never raise. A node has one or none;
    deliveries are reported once for each frame, not for each client.
    """

    def connected(self, environment: Environment, *, is_resumed: bool) -> None:
        """A client was let in by the application, or has resumed a session."""
        ...

    def rejected(self, environment: Environment, reason: Reason) -> None:
        """A client was not let in."""
        ...

    def received(self, environment: Environment, command: Command) -> None:
        """A client sent a command; it may have to wait for those before it."""
        ...

    def refused(self, environment: Environment, why: str) -> None:
        """A client sent what is not a command, or one that makes no sense."""
        ...

    def subscribed(self, environment: Environment, identifier: Identifier) -> None:
        """The application accepted a subscription."""
        ...

    def subscription_rejected(self, environment: Environment, identifier: Identifier) -> None:
        """The application refused a subscription."""
        ...

    def unsubscribed(self, environment: Environment, identifier: Identifier) -> None:
        """A client gave a subscription back. Those of a client that leaves end without this."""
        ...

    def disconnected(self, environment: Environment, reason: Reason | None) -> None:
        """A client that was connected is gone; None for a client that left by itself, or was lost."""
        ...

    def published(self, publications: tuple[Publishable, ...]) -> None:
        """A publisher sent these to this node."""
        ...

    def delivered(self, stream: Stream, messages: int, clients: int) -> None:
        """So many messages of a stream are on their way to each of so many clients of this node."""
        ...
