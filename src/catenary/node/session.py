"""One client: who it is, what it is subscribed to, and the way to it.

Knows: its own state. Does not know: the hub, the application, the node that moves it along.
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
from catenary.ports import Goodbye, Outbound

FEW_STREAMS: Final = 8
"""Up to so many streams of a subscription are kept in a tuple, which takes 48 bytes for one; a dict
takes 232. Beyond, a dict finds, adds and removes one at the same cost for any number."""


Asked = Literal["in time", "not yet", "too late"]
"""Has the client of a restored subscription asked for the history? *In time*: it has, or the subscription was not
restored. *Not yet*: what is published waits for that. *Too late*: it had not, and what was published has been sent."""


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
        """The streams: not to be iterated over while some are added or removed."""
        return self._streams

    def add_stream(self, stream: Stream) -> bool:
        """Adds a stream; False where the subscription has it already."""
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
        """Removes a stream; False where the subscription does not have it."""
        streams = self._streams
        if stream not in streams:
            return False
        if isinstance(streams, dict):
            del streams[stream]
            if not streams:
                self._streams = ()  # a dict does not give its memory back by itself
        else:
            self._streams = tuple(each for each in streams if each != stream)
        return True

    def remove_streams(self) -> Collection[Stream]:
        """Removes all streams, and returns them."""
        streams, self._streams = self._streams, ()
        return streams


class Traits(msgspec.Struct, frozen=True):
    """What a client's request says of it besides its environment.

    ``is_resumable`` clients may come back as the session that they were; ``resumes`` is the one
    that this client wants to be again.
    """

    heartbeat: Heartbeat = Heartbeat(0)
    is_resumable: bool = False
    resumes: Sid | None = None


class Session:
    """A client from its handshake to its end.

    ``inbox`` is None while nothing is awaited, which is most of a session's life. ``silent_since``
    is the moment of the first ping, where pongs are wanted, behind which nothing was heard; 0 where
    something was. ``previous_sid`` is what a session that was resumed was called before, until something
    is heard of it: its client may not know yet how it is called now. ``expires_at`` is when the token of the
    client expires, in seconds since 1970; None: never.
    """

    __slots__ = (
        "closed",
        "connected",
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
        # Who it is
        self.environment = environment
        self.sid = environment.sid
        self.previous_sid: Sid | None = None
        self.expires_at: float | None = None
        # The way to it
        self.encoder = encoder
        self.outbound = outbound
        # Where it stands
        self.connected = False
        self.closed = False
        self.ended_for: Reason | None = None
        self.disconnect_wanted = False
        self.is_resumable = False
        self.silent_since = 0.0
        self.inbox: Inbox | None = None
        self.subscriptions: dict[Identifier, Subscription] = {}

    def send(self, reply: Reply) -> None:
        """The one way out for what is meant for this client alone."""
        encoded = self.encoder.encode(reply)
        if encoded is not None:
            self.outbound.write(encoded)

    def send_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        """Sends batches of which there may be many: a single one at once, more as
        :meth:`catenary.ports.Outbound.write_slices` does, which says what is returned."""
        first = next(slices, None)
        if first is None:
            return None
        second = next(slices, None)
        if second is None:
            self.outbound.write(first)
            return None
        return self.outbound.write_slices(chain((first, second), slices))

    def transmit(self, text: str) -> None:
        """The same for a message that the application wrote itself."""
        encoded = self.encoder.encode_transmission(text)
        if encoded is not None:
            self.outbound.write(encoded)

    def close(
        self, reason: Reason, *, reconnect: bool | None = None, goodbye: Goodbye | None = None
    ) -> None:
        """The only way to end a session: tells the client why, then asks the transport to close, with the
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
            # The application ended the session: only the application lets this client in again.
            self.is_resumable = False
        self.send(Disconnected(reason, may_return))
        self.outbound.close(goodbye or self.encoder.goodbye(reason))
