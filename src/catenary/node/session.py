"""One client: its identity, its subscriptions, its transport.

Knows: its own state. Does not know: the hub, the application, the node.
"""

from collections.abc import Awaitable, Collection, Iterator
from itertools import chain
from typing import Final, Literal

import msgspec

from catenary.messages.environment import Environment
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.reasons import Reason
from catenary.messages.replies import Disconnected, Reply
from catenary.node.encoder import Encoder
from catenary.node.inbox import Inbox
from catenary.ports import Decode, Goodbye, Outbound
from catenary.tracer import Span

FEW_STREAMS: Final = 8
"""Up to this number, the streams of a subscription are in a tuple: 48 bytes for one, a dict takes 232. More are in a dict,
which finds, adds and removes one at a constant cost."""


Asked = Literal["in time", "not yet", "too late"]
"""Whether the client of a restored subscription has requested the history. *In time*: it has, or the subscription was not
restored. *Not yet*: messages are buffered until it does. *Too late*: it had not, and the buffered messages were sent."""


class Subscription:
    """One identifier of one session, and its streams in the order in which they were added."""

    __slots__ = ("_streams", "asked", "identifier", "presence_stream", "session", "whisper_stream")

    def __init__(self, session: "Session", identifier: Identifier) -> None:
        self.session = session
        self.identifier = identifier
        self._streams: tuple[Stream, ...] | dict[Stream, None] = ()
        self.asked: Asked = "in time"
        self.whisper_stream: Stream | None = None
        self.presence_stream: Stream | None = None

    @property
    def streams(self) -> Collection[Stream]:
        """The streams. Not to be iterated over while streams are added or removed."""
        return self._streams

    def add_stream(self, stream: Stream) -> bool:
        """Adds a stream; False if the subscription has it."""
        streams = self._streams
        if stream in streams:
            return False
        if isinstance(streams, dict):
            streams[stream] = None
        elif len(streams) < FEW_STREAMS:
            self._streams = (*streams, stream)
        else:
            self._streams = dict.fromkeys((*streams, stream))
        return True

    def remove_stream(self, stream: Stream) -> bool:
        """Removes a stream; False if the subscription does not have it."""
        streams = self._streams
        if stream not in streams:
            return False
        if isinstance(streams, dict):
            del streams[stream]
            if not streams:
                self._streams = ()  # an empty dict keeps its memory
        else:
            self._streams = tuple(each for each in streams if each != stream)
        return True

    def remove_streams(self) -> Collection[Stream]:
        """Removes all streams, and returns them."""
        streams, self._streams = self._streams, ()
        return streams


class Traits(msgspec.Struct, frozen=True):
    """Properties of a client that follow from its request, besides its environment.

    The session of an ``is_resumable`` client may be resumed later; ``resumes`` is the session that this client asks to
    resume. ``decode`` reads the messages of this client; None: the codec of its encoder does. ``asked_at`` is when it asked to
    be admitted (``time.perf_counter``), 0 if that is unknown. ``span`` traces its admission, and ends with it; None if it is not
    traced.
    """

    heartbeat: Heartbeat = Heartbeat(0)
    is_resumable: bool = False
    resumes: Sid | None = None
    decode: Decode | None = None
    asked_at: float = 0.0
    span: Span | None = None


class Session:
    """A client from its handshake to the loss of its connection.

    ``inbox`` is None while no command is waited for, which is most of the time. ``silent_since`` is the loop time of the
    first ping since the client sent something; 0 if it has sent something since the last ping, or no pongs are expected.
    ``previous_sid`` is the former sid of a resumed session until the client sends something: it may not have received
    its new one. ``connected_at`` is when the client connected and ``expires_at`` when its token
    expires (None: never), in seconds since 1970.
    """

    __slots__ = (
        "closed",
        "connected",
        "connected_at",
        "decode",
        "disconnect_wanted",
        "encoder",
        "ended_for",
        "environment",
        "expires_at",
        "inbox",
        "is_resumable",
        "outbound",
        "previous_sid",
        "sid",
        "silent_since",
        "subscriptions",
    )

    def __init__(self, environment: Environment, encoder: Encoder, outbound: Outbound) -> None:
        # Identity
        self.environment = environment
        self.sid = environment.sid
        self.previous_sid: Sid | None = None
        self.expires_at: float | None = None
        self.connected_at = 0
        # Transport
        self.encoder = encoder
        self.decode = encoder.decode
        self.outbound = outbound
        # State
        self.connected = False
        self.closed = False
        self.ended_for: Reason | None = None
        self.disconnect_wanted = False
        self.is_resumable = False
        self.silent_since = 0.0
        self.inbox: Inbox | None = None
        self.subscriptions: dict[Identifier, Subscription] = {}

    def send(self, reply: Reply) -> None:
        """Sends a reply to this client; all messages that are not publications are sent here or by :meth:`transmit`."""
        encoder = self.encoder
        encoded = encoder.encode(reply)
        if encoded is not None:
            self.outbound.write(encoded)
            if encoder.observers.transmitted is not None:
                encoder.observers.transmitted(self.environment, reply)

    def send_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        """Sends batches: a single one at once, more by :meth:`catenary.ports.Outbound.write_slices`, whose result
        is returned."""
        first = next(slices, None)
        if first is None:
            return None
        second = next(slices, None)
        if second is None:
            self.outbound.write(first)
            return None
        return self.outbound.write_slices(chain((first, second), slices))

    def transmit(self, text: str) -> None:
        """Sends a message that the application wrote itself."""
        encoder = self.encoder
        encoded = encoder.encode_transmission(text)
        if encoded is not None:
            self.outbound.write(encoded)
            if encoder.observers.transmitted is not None:
                encoder.observers.transmitted(self.environment, text)

    def report_transmitted(self, message: Reply | str) -> None:
        """Reports a message that was not sent by :meth:`send` or :meth:`transmit`: one that was encoded in slices, or for
        several clients, or by the codec itself."""
        transmitted = self.encoder.observers.transmitted
        if transmitted is not None:
            transmitted(self.environment, message)

    def close(
        self, reason: Reason, *, reconnect: bool | None = None, goodbye: Goodbye | None = None
    ) -> None:
        """The only way to end a session: sends the client the reason, then closes the transport, with the
        protocol's ``goodbye`` for the reason unless one is given.

        Everything else that the end of a session involves happens once, when the transport has lost its
        connection (:meth:`catenary.node.node.Node.leave`).
        """
        if self.closed:
            return
        self.closed = True
        self.ended_for = reason
        may_return = reason.reconnect if reconnect is None else reconnect
        if not may_return or reason in (Reason.REMOTE, Reason.COMMAND_FAILED):
            # The application ended the session: it has to admit this client again.
            self.is_resumable = False
        self.send(Disconnected(reason, may_return))
        self.outbound.close(goodbye or self.encoder.goodbye(reason))
