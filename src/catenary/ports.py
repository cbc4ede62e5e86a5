"""The ports: the interfaces between the node and the rooms around it, with the contract of each method.

Both sides import this module, not each other.
"""

from collections.abc import Awaitable, Callable, Collection, Generator, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from catenary.broker.revocations import Revocations
from catenary.messages.commands import CloseConnection, Command, DirectReply
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment, Requester
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
    """An awaitable that also takes a callback, so that waiting for it needs no task.

    Either it is awaited or :meth:`then` is called, once.
    """

    __slots__ = ()

    def then(self, callback: Callable[[_T | Exception], None]) -> None:
        """The callback runs exactly once, with the result or the exception, never synchronously."""
        raise NotImplementedError

    def cancel(self) -> None:
        """The result is not needed any more: the callback is not called."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, _T]:
        raise NotImplementedError


class Channels(Protocol):
    """Decides about subscriptions.

    An immediate decision is returned as a value, without a task; one that arrives by a callback may be
    :class:`Pending`, which needs none either. The node makes one call at a time for each session, in the order of the
    client's commands, and cancels the awaitable of a client that has left. If there is no decision, methods and awaitables
    raise :class:`catenary.errors.AppError`, and nothing else.
    """

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """Decides whether a client may subscribe. A successful decision has the streams and a confirmation."""
        ...

    def unsubscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """A client unsubscribes. The node stops its streams whatever the decision is."""
        ...

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Decision | Awaitable[Decision]:
        """A client calls an action; ``data`` is JSON text."""
        ...


class Application(Channels, Protocol):
    """Decides about clients and their subscriptions, under the contract of :class:`Channels`."""

    def connect(self, environment: Environment) -> Decision | Awaitable[Decision]:
        """Decides whether a client may connect. A successful decision has its identifiers.

        An awaitable that is cancelled during its call may still return the decision: the end of a client that was
        admitted and has left is then reported as any other.
        """
        ...

    def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> Awaitable[None]:
        """A session has ended. Called at most once for each."""
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
"""Approximate size of a slice of a large answer, and of a piece of a large message: 100 µs of the event loop."""


class Outbound(Protocol):
    """The sending side of one client's transport. Implemented by the transport, used by the session."""

    write: Callable[[bytes], None]
    """Sends a batch: one or several joined messages, each framed by the session's encoder. A transport that needs
    the single messages finds their ends in that framing.

    Never calls back synchronously, never raises, does nothing after :meth:`close`."""

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        """Sends batches one by one, after all messages written before and ahead of all written later.

        Each is taken from the iterator when the client has read most of the previous ones, some in each turn of the event
        loop. None if all are sent. The awaitable is done when the last one is sent or the connection has ended; it
        raises the exceptions of the iterator.
        """
        ...

    def tolerate_slowness(self) -> None:
        """From now on, batches wait if the client has not read the ones before, and :attr:`is_behind` says so. It is closed
        as slow only if too much waits. Further calls change nothing."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether something waits because the client has not read what was written before: about :data:`SLICE_BYTES`. To be
        asked after :meth:`tolerate_slowness`."""
        ...

    def close(self, goodbye: Goodbye) -> None:
        """Ends the connection after all messages written so far were sent. Only the first call counts."""
        ...

    def pause_reading(self) -> None:
        """Stops reading: the inbox of the client is full. Calls are counted."""
        ...

    def resume_reading(self) -> None:
        """Undoes one :meth:`pause_reading`."""
        ...


class Waiting(Protocol):
    """A connection that waits for data of its client."""

    def time_out(self) -> None:
        """The deadline has passed."""
        ...


class Watch(Protocol):
    """Calls :meth:`Waiting.time_out` on connections that wait for too long."""

    def watch(self, connection: Waiting) -> None:
        """Starts the time limit of a connection; starts it again if it is running."""
        ...

    def forget(self, connection: Waiting) -> None:
        """Stops the time limit: data has arrived, or the connection is lost. Does nothing if it is not running."""
        ...


Decode = Callable[[bytes], Command | tuple[Command, ...] | None]
"""Reads one message of a client: :meth:`Codec.decode`."""


class Codec(Protocol):
    """The messages of one client protocol: payloads ↔ commands and replies. Pure.

    A codec without state serves every session at once; one with state belongs to one session
    (:class:`catenary.protocols.table.ClientProtocol`).
    """

    def decode(self, payload: bytes) -> Command | tuple[Command, ...] | None:
        """Reads one message: its commands in order; None if it has none.

        An answer that the protocol gives itself, without the node, is a
        :class:`catenary.messages.commands.DirectReply` among the commands. A message for which the protocol
        ends the connection is a :class:`catenary.messages.commands.CloseConnection`, with the close code of the protocol.
        Raises :class:`catenary.errors.CommandError` for one that is only ignored.
        """
        ...

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply; None if this protocol has no message for it."""
        ...

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """Writes a reply that may be large: one payload, in pieces of about :data:`SLICE_BYTES`, each written on
        demand; no piece if this protocol has no message for it."""
        ...

    def encode_transmission(self, text: str) -> bytes | None:
        """Writes a message that the application wrote itself, in Action Cable's JSON; None if this protocol has no
        message for it.

        Codecs other than Action Cable's JSON read it with
        :func:`catenary.protocols.actioncable_transmissions.read_reply` and encode the reply.
        """
        ...

    def encode_delivery(self, delivery: Delivery) -> bytes | None:
        """Writes a publication for one identifier, once for all sessions that share it: the hot path. None if this
        protocol has no message for it."""
        ...

    def goodbye(self, reason: Reason) -> Goodbye:
        """How a connection ends for a reason of the server, or of a client that broke no rule of this protocol. A message
        that says so before, if this protocol has one, is the encoding of
        :class:`catenary.messages.replies.Disconnected`."""
        ...


class Introduction(msgspec.Struct, frozen=True):
    """A client has introduced itself, and may be admitted.

    ``headers`` are added to those of its environment, names in lower case. ``is_command``: the message is also its first
    command, and is decoded again once the node has the client.
    """

    headers: dict[str, str] = {}
    is_command: bool = False


class IntroducedCodec(Codec, Protocol):
    """A codec whose clients introduce themselves with a message after the handshake, before the application is asked to
    admit them. It has state (:class:`catenary.protocols.table.ClientProtocol`)."""

    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        """Reads a message of a client that has not introduced itself yet: its introduction, or the answers to another
        message, of which a :class:`catenary.messages.commands.CloseConnection` is the last.

        Returns one introduction for each client, at most: later messages are passed to ``decode``. Raises
        :class:`catenary.errors.CommandError` for a message that is only ignored. A client that does not introduce itself
        in time gets ``goodbye(Reason.IDLE_TIMEOUT)``.
        """
        ...


class History(Protocol):
    """Reads the stored messages of a stream; :class:`PubSub` writes them.

    A remote history returns awaitables, which raise :class:`catenary.errors.BackendError` if it can't be reached.
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


class StreamRecords(Protocol):
    """Stores a record for each durable stream, and writes it in one step with messages of the stream.

    A record is opaque. It is forgotten when its time to live has passed since it was last written or touched. After
    that, and after its removal, the stream is *gone* for as long as the history may keep messages of it: a stream of the same
    name must not show them. Remote records return awaitables, which raise :class:`catenary.errors.BackendError`.
    """

    def read(self, stream: Stream) -> bytes | Awaitable[bytes | None] | None:
        """Returns the record; empty if the stream is gone, None if it is unknown."""
        ...

    def touch(self, stream: Stream, ttl_s: float) -> Awaitable[None] | None:
        """Starts the time to live of a record again; does nothing if there is none."""
        ...

    def write(
        self,
        stream: Stream,
        expected: bytes,
        record: bytes,
        ttl_s: float,
        publications: tuple[Publication, ...] = (),
    ) -> bool | Awaitable[bool]:
        """Replaces the record, and stores and publishes messages as :class:`PubSub` does, unless the record is not
        ``expected`` any more: then returns False, and nothing is written. An empty record is none: the stream is gone."""
        ...


class SessionCache(Protocol):
    """Stores sessions that may be resumed, each for a time to live after it was last saved or touched.

    ``is_shared`` says that all nodes use the same cache: then living sessions are stored, too, so that they survive
    their node. A cache that is not shared returns values. ``revocations`` are the remote disconnects that this node has
    received: :class:`PubSub` adds each before it delivers the command. Awaitables raise
    :class:`catenary.errors.BackendError`.
    """

    is_shared: bool
    revocations: Revocations

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> Awaitable[None] | None:
        """Stores a session and replaces an earlier state of it.

        A session that is not new and not stored any more was taken or has ended: it is not stored again.
        """
        ...

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> Awaitable[None] | None:
        """Replaces lines of a stored snapshot, by their numbers from 0 on, or appends lines.

        A snapshot may have several lines, separated by line feeds, which may be stored separately. Does nothing for
        a snapshot that is not stored any more. Required if ``is_shared``.
        """
        ...

    def touch(self, sids: Collection[Sid]) -> Awaitable[None] | None:
        """Starts the time to live of these sessions again; does nothing for one that is not stored."""
        ...

    def take(self, sid: Sid) -> bytes | Awaitable[bytes | None] | None:
        """Removes and returns a session, to resume it; of several callers, one gets it. None if it is not stored.

        Raises :class:`catenary.errors.NotCaughtUp` while this node may not know all revocations: then the session was
        not removed.
        """
        ...

    def remove(self, sid: Sid) -> bytes | Awaitable[bytes | None] | None:
        """Removes and returns a session, to end it, whichever revocations are known."""
        ...

    def expire(self) -> tuple[bytes, ...] | Awaitable[tuple[bytes, ...]]:
        """Removes and returns sessions whose time to live has passed, some at a time; each is returned once, to one node. A
        cache that returns a value is asked again in the next turn of the event loop, until it returns none."""
        ...

    def give_up(self) -> tuple[bytes, ...]:
        """When this node ends: removes and returns the sessions that no client can resume any more."""
        ...


class Presence(Protocol):
    """The members of each stream by their id, each with one session or several.

    A session whose time to live has passed without a touch is removed. ``info`` is JSON text.
    """

    def join(
        self, stream: Stream, sid: Sid, member_id: str, info: str
    ) -> PresenceChange | Awaitable[PresenceChange | None] | None:
        """Adds a session to a member. Returns the change for others: a join, or new info of an existing member; None
        if there is none."""
        ...

    def leave(
        self, stream: Stream, sid: Sid
    ) -> PresenceChange | Awaitable[PresenceChange | None] | None:
        """Removes a session from its member, which leaves with its last one."""
        ...

    def touch(self, sids: Collection[Sid]) -> Awaitable[None] | None:
        """Starts the time to live of these sessions again, on all their streams."""
        ...

    def members(self, stream: Stream) -> tuple[Member, ...] | Awaitable[tuple[Member, ...]]:
        """Returns the members of a stream, in the order in which they joined."""
        ...

    def streams(self, sid: Sid) -> tuple[Stream, ...] | Awaitable[tuple[Stream, ...]]:
        """Returns the streams on which a session is present."""
        ...

    def expire(self) -> tuple[PresenceChange, ...] | Awaitable[tuple[PresenceChange, ...]]:
        """Removes sessions whose time to live has passed, some at a time, and returns the leaves, which it does not publish.
        A port that returns a value is called again in the next turn of the event loop, until it returns none."""
        ...


class Interest(Protocol):
    """Learns which streams have listeners on this node: messages of others need not be received."""

    def listen(self, stream: Stream) -> None:
        """A stream has its first listener."""
        ...

    def unlisten(self, stream: Stream) -> None:
        """A stream has lost its last listener."""
        ...

    def when_live(self, streams: Collection[Stream]) -> Awaitable[None] | None:
        """None if all messages that are published from now on arrive here; else to be awaited.

        The awaitable is also done if the engine is away: messages that are published meanwhile are read later. Never
        raises.
        """
        ...

    def has_arrived(self, stream: Stream, position: Position) -> bool:
        """Whether all messages up to a position have arrived here. A history may be ahead of live delivery."""
        ...

    def call_when_arrived(
        self, stream: Stream, position: Position, call: Callable[[], None]
    ) -> None:
        """Calls ``call`` once, when all messages up to a position have arrived, or the stream has lost its last listener.
        Not called synchronously. To be called only if :meth:`has_arrived` is false. Never raises."""
        ...


class PubSub(Protocol):
    """Stores publications in the history and sends them to every node, this one included.

    A remote disconnect revokes its identifiers before it is delivered (:class:`SessionCache`), on every node, also on
    one that was away when it was sent.

    Built with ``deliver``, which it calls for each publication, in the order of each stream.
    """

    def send(
        self, publications: tuple[Publishable, ...], entry: QueueEntry | None = None
    ) -> Awaitable[None] | None:
        """Gives each message its position, unless it is transient or there is no history, and sends all to the nodes, in
        order; None if that is done.

        The offsets of a stream are assigned in the order of the calls, and delivered in the order of the offsets,
        whichever nodes call. Awaiting raises :class:`catenary.errors.BackendError` for messages that could not be stored
        or sent.

        ``entry`` is the queue entry that they were read from: an engine that supports it publishes an entry once, however
        often it receives it. If that fails, it does not publish entries of the same stream that were sent after it and
        before the failure.
        """
        ...

    def relay(self, command: RemoteDisconnect) -> Awaitable[None] | None:
        """Sends a command that every node has received from its publisher and relays. It takes effect once."""
        ...


class NodePublisher(Protocol):
    """Accepts publications of an application for all nodes: :class:`catenary.node.publications.Publications`."""

    def publish(self, raw: bytes, *, trace: str = "") -> Awaitable[None] | None:
        """Publishes JSON, in the order of the calls. Returns None if it is done, else an awaitable.

        ``trace`` is the span to which the publications belong (:attr:`catenary.messages.publications.Publication.trace`), empty
        for none. Raises :class:`catenary.errors.CatenaryError`, or the awaitable does.
        """
        ...


class Peers(Protocol):
    """Messages between nodes, in order from each to each. One that is sent while either node is away is lost."""

    node: str
    """The name of this node: letters and digits, another one at each start."""

    on_message: Callable[[bytes], None]
    """Called for each message to this node. Set once, before the start; never raises."""

    def send_to(self, node: str, message: bytes) -> None:
        """Sends a message of up to :data:`PEER_BYTES` to a node. Never raises."""
        ...

    def send_to_all(self, message: bytes) -> None:
        """Sends a message of up to :data:`PEER_BYTES` to every node, this one included. Never raises."""
        ...


PEER_BYTES: Final = 524_288
"""The largest message between nodes: half of what NATS accepts by default (``max_payload``)."""


class Observer(Protocol):
    """Is notified of the clients and publications of this node, for webhooks, logs, tracing or a console.

    Called synchronously in the event loop: methods return at once and never raise. A node has any number, in an
    :class:`catenary.node.observers.ObserverGroup`; an event that no observer wants costs a comparison with None. Deliveries are
    reported once for each frame, not for each client.

    An :class:`Environment` has the sid, the URL, the identifiers, the address, the path and the ``ingress`` of a client:
    its transport, protocol and origin. URL and headers may contain tokens and cookies: log none of them. The life of a client
    is ``opened``, then ``connected`` or ``rejected``, commands and their answers, ``disconnected`` if it was connected, and
    ``closed``.
    """

    # Requests

    def request_refused(self, requester: Requester, status: int, why: str) -> None:
        """An HTTP request was answered with an error: a handshake, or a call of an API. There is no session."""
        ...

    # Clients

    def opened(self, environment: Environment) -> None:
        """The transport of a client is open; the application will decide, or a session is resumed."""
        ...

    def connected(self, environment: Environment, *, is_resumed: bool) -> None:
        """The application has admitted a client, or a client has resumed a session."""
        ...

    def rejected(self, environment: Environment, reason: Reason, why: str) -> None:
        """A client was not admitted. ``why`` says more than the reason: what is wrong with its token, or why the application
        could not decide; empty if nothing is known."""
        ...

    def received(self, environment: Environment, command: Command) -> None:
        """A client sent a command, which may wait for those before it."""
        ...

    def refused(self, environment: Environment, why: str) -> None:
        """A client sent an invalid message or command."""
        ...

    def subscribed(self, environment: Environment, identifier: Identifier) -> None:
        """The application accepted a subscription."""
        ...

    def subscription_rejected(
        self, environment: Environment, identifier: Identifier, why: str
    ) -> None:
        """A subscription was refused: by the application, by a signature, or by a limit. ``why`` is empty if nothing is
        known."""
        ...

    def unsubscribed(self, environment: Environment, identifier: Identifier) -> None:
        """A client has unsubscribed. Not called for the subscriptions of a client that leaves."""
        ...

    def performed(
        self, environment: Environment, identifier: Identifier, decision: Decision
    ) -> None:
        """The application answered an action. The decision is applied."""
        ...

    def failed(self, environment: Environment, identifier: Identifier | None, why: str) -> None:
        """The application could not decide about a command, or its decision was refused; ``identifier`` is None for
        the connection itself."""
        ...

    def transmitted(self, environment: Environment, message: Reply | str) -> None:
        """A message was sent to one client: a reply, or the text that the application wrote. Not called for pings, and not for
        publications, which ``delivered`` reports. A protocol may have no message for a reply."""
        ...

    def disconnected(self, environment: Environment, reason: Reason | None) -> None:
        """A connected client has left; ``reason`` is None if it closed or lost the connection."""
        ...

    def closed(self, environment: Environment, reason: Reason | None, how: str) -> None:
        """The transport of a client, connected or not, is closed: the last event of each ``opened`` client. ``reason`` is
        None unless the server has closed it. ``how`` says what the transport knows: the client's close code, or the error
        of the connection; empty if it knows nothing."""
        ...

    # Publications

    def published(self, publications: tuple[Publishable, ...]) -> None:
        """A publisher sent these to this node."""
        ...

    def publication_refused(self, raw: bytes | str, why: str) -> None:
        """A publisher sent something that is no publication. Requests without the key are reported by
        ``request_refused``."""
        ...

    def whispered(self, environment: Environment, publication: Publication) -> None:
        """A client sent a message to the other clients of its whisper stream."""
        ...

    def found_no_history(self, environment: Environment, stream: Stream) -> None:
        """A client asked for the history of a stream, and there was no message for it."""
        ...

    def presence_changed(self, change: PresenceChange) -> None:
        """A member joined or left a stream, or its info changed. One node of a cluster reports each change: the one
        of the client, or the one that has noticed that a session expired."""
        ...

    def delivered(self, stream: Stream, messages: int, clients: int) -> None:
        """``messages`` of a stream are sent to each of ``clients`` of this node."""
        ...
