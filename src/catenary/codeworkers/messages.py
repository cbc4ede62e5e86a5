"""What a serving process and the processes that run the application's code say to each other.

Both are of one version and on one machine, so this is nobody else's protocol: each message is its
length (4 bytes, big-endian) and MessagePack of a struct as an array, which begins with its kind.
Calls and publications carry ids, so that many are under way at once, in both directions.
Pure: bytes ↔ messages. Does not know: sockets, who runs what.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from catenary.channels.timers import DeclaredTimer
from catenary.messages.decisions import Decision, PresenceCommand, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Page, Position
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Delivery, Disconnected, Rejected, Reply, Welcome

CONNECT: Final = 0
SUBSCRIBE: Final = 1
UNSUBSCRIBE: Final = 2
PERFORM: Final = 3
DISCONNECT: Final = 4
RESTORED: Final = 5
"""The session of a subscription was resumed."""
TIMER: Final = 6
"""A timer is due: ``data`` is its name."""

Kind = Literal[0, 1, 2, 3, 4, 5, 6]


class Question(msgspec.Struct, array_like=True, tag=0, gc=False):
    """A call of the application. Only the state that it can see comes along."""

    id: int
    kind: Kind
    sid: Sid
    url: str
    headers: dict[str, str]
    identifiers: str
    cstate: dict[str, str] | None
    istate: dict[Identifier, dict[str, str]] | None
    identifier: Identifier
    data: str
    subscriptions: tuple[Identifier, ...]

    @property
    def environment(self) -> Environment:
        """The client as its application sees it."""
        return Environment(
            self.sid, self.url, self.headers, self.identifiers, self.cstate, self.istate
        )


class Abandon(msgspec.Struct, array_like=True, tag=1, gc=False):
    """The client of a call has left. The call is answered all the same, in whichever way it ends."""

    id: int


class Taken(msgspec.Struct, array_like=True, tag=2, gc=False):
    """What became of a publication; ``error`` is empty where it was taken.

    ``failure`` is the name of the exception.
    """

    id: int
    error: str
    failure: str = ""


class End(msgspec.Struct, array_like=True, tag=3, gc=False):
    """There will be no more calls: the application has some seconds to come to its end."""

    timeout_s: float


class Found(msgspec.Struct, array_like=True, tag=4):
    """What is known of a stream; ``failure`` names an error of :mod:`catenary.errors`, ``error`` says more."""

    id: int
    members: tuple[Member, ...] = ()
    page: Page | None = None
    failure: str = ""
    error: str = ""


class Ready(msgspec.Struct, array_like=True, tag=4):
    """The code is loaded, and calls may come."""

    timers: tuple[DeclaredTimer, ...]


class Answer(msgspec.Struct, array_like=True, tag=5, gc=False):
    """The decision about a call. What most decisions do not have stands in ``rest``."""

    id: int
    verdict: int
    replies: "tuple[_Reply, ...]"
    rest: "_Rest | None"

    @property
    def decision(self) -> Decision:
        """The decision as the application took it."""
        replies = tuple([_heard(each) for each in self.replies])
        if self.rest is None:
            return Decision(verdict=_VERDICTS[self.verdict], replies=replies)
        rest = self.rest
        return Decision(
            verdict=_VERDICTS[self.verdict],
            replies=replies,
            identifiers=rest.identifiers,
            transmissions=rest.transmissions,
            streams=rest.streams,
            stopped_streams=rest.stopped_streams,
            stop_all_streams=rest.stop_all_streams,
            disconnect=rest.disconnect,
            cstate=rest.cstate,
            istate=rest.istate,
            whispers_to=rest.whispers_to,
            seen_on=rest.seen_on,
            presence=rest.presence,
            error=rest.error,
            disconnect_wanted=rest.disconnect_wanted,
        )


class Unanswered(msgspec.Struct, array_like=True, tag=6, gc=False):
    """A call ended without a decision: it was abandoned."""

    id: int


class Published(msgspec.Struct, array_like=True, tag=7, gc=False):
    """The application publishes; ``raw`` is JSON as every publisher sends it."""

    id: int
    raw: bytes


class PresenceQuery(msgspec.Struct, array_like=True, tag=8, gc=False):
    """The application wants to know who is on a stream."""

    id: int
    stream: Stream


class HistoryQuery(msgspec.Struct, array_like=True, tag=9, gc=False):
    """The application wants a part of a history: see :meth:`catenary.channels.reading.Reader.page`."""

    id: int
    stream: Stream
    start: int | Position
    limit: int
    newest: bool


class Counted(msgspec.Struct, array_like=True, tag=10, gc=False):
    """What the application has counted since it last said so: see :class:`catenary.channels.cable.Cable`."""

    limited: int
    failed: int
    slow: int


ToWorker = Question | Abandon | Taken | End | Found
FromWorker = Ready | Answer | Unanswered | Published | PresenceQuery | HistoryQuery | Counted


class _Delivered(msgspec.Struct, array_like=True, tag=0, gc=False):
    identifier: Identifier
    message: bytes


class _Confirmed(msgspec.Struct, array_like=True, tag=1, gc=False):
    identifier: Identifier


class _Rejected(msgspec.Struct, array_like=True, tag=2, gc=False):
    identifier: Identifier


class _Welcomed(msgspec.Struct, array_like=True, tag=3, gc=False):
    sid: Sid


class _Goodbye(msgspec.Struct, array_like=True, tag=4, gc=False):
    reason: str
    reconnect: bool


_Reply = _Delivered | _Confirmed | _Rejected | _Welcomed | _Goodbye


class _Rest(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """See :class:`Decision`."""

    identifiers: str = ""
    transmissions: tuple[str, ...] = ()
    streams: tuple[Stream, ...] = ()
    stopped_streams: tuple[Stream, ...] = ()
    stop_all_streams: bool = False
    disconnect: bool = False
    cstate: dict[str, str] | None = None
    istate: dict[str, str] | None = None
    whispers_to: Stream | None = None
    seen_on: Stream | None = None
    presence: PresenceCommand | None = None
    error: str = ""
    disconnect_wanted: bool | None = None


_VERDICTS: Final = tuple(Verdict)
_NUMBERS: Final = {verdict: number for number, verdict in enumerate(_VERDICTS)}


def question(
    id: int,
    kind: Kind,
    environment: Environment,
    identifier: Identifier,
    *,
    data: str,
    subscriptions: tuple[Identifier, ...],
) -> Question:
    """A call with what its client's environment is now."""
    istate = environment.istate
    if istate is not None and kind != DISCONNECT:
        mine = istate.get(identifier)
        istate = None if mine is None else {identifier: mine}
    return Question(
        id,
        kind,
        environment.sid,
        environment.url,
        environment.headers,
        environment.identifiers,
        environment.cstate,
        istate,
        identifier,
        data,
        subscriptions,
    )


def answer(id: int, decision: Decision) -> Answer:
    """A decision on its way. Raises ValueError for a reply that applications do not send."""
    replies = tuple([_said(each) for each in decision.replies])
    return Answer(id, _NUMBERS[decision.verdict], replies, _rest(decision))


def _rest(decision: Decision) -> _Rest | None:
    if not (
        decision.identifiers
        or decision.transmissions
        or decision.streams
        or decision.stopped_streams
        or decision.stop_all_streams
        or decision.disconnect
        or decision.cstate
        or decision.istate
        or decision.error
        or decision.presence is not None
        or decision.whispers_to is not None
        or decision.seen_on is not None
        or decision.disconnect_wanted is not None
    ):
        return None
    return _Rest(
        identifiers=decision.identifiers,
        transmissions=decision.transmissions,
        streams=decision.streams,
        stopped_streams=decision.stopped_streams,
        stop_all_streams=decision.stop_all_streams,
        disconnect=decision.disconnect,
        cstate=decision.cstate,
        istate=decision.istate,
        whispers_to=decision.whispers_to,
        seen_on=decision.seen_on,
        presence=decision.presence,
        error=decision.error,
        disconnect_wanted=decision.disconnect_wanted,
    )


def _said(reply: Reply) -> _Reply:
    match reply:
        case Delivery(identifier, message):
            return _Delivered(identifier, message)
        case Confirmed(identifier):
            return _Confirmed(identifier)
        case Rejected(identifier):
            return _Rejected(identifier)
        case Welcome(sid):
            return _Welcomed(sid)
        case Disconnected(Reason() as reason, reconnect):
            return _Goodbye(reason.name, reconnect)
        case _:
            raise ValueError(f"expected what applications say, got {type(reply).__name__}")


def _heard(reply: _Reply) -> Reply:
    match reply:
        case _Delivered(identifier, message):
            return Delivery(identifier, message)
        case _Confirmed(identifier):
            return Confirmed(identifier)
        case _Rejected(identifier):
            return Rejected(identifier)
        case _Welcomed(sid):
            return Welcome(sid)
        case _Goodbye(reason, reconnect):
            return Disconnected(Reason[reason], reconnect)


# Bytes

_LENGTH: Final = 4
_encoder: Final = msgspec.msgpack.Encoder()
read_to_worker: Final = msgspec.msgpack.Decoder(ToWorker).decode
"""Reads one message of the serving process. Raises :class:`msgspec.DecodeError`."""
read_from_worker: Final = msgspec.msgpack.Decoder(FromWorker).decode
"""Reads one message of a code worker. Raises :class:`msgspec.DecodeError`."""


def write(message: ToWorker | FromWorker, out: bytearray) -> None:
    """Appends one message. Raises ValueError for text that is no Unicode; ``out`` is then as before."""
    start = len(out)
    try:
        _encoder.encode_into(message, out, start + _LENGTH)
    except ValueError:
        del out[start:]
        raise
    out[start : start + _LENGTH] = (len(out) - start - _LENGTH).to_bytes(_LENGTH, "big")


class Frames:
    """Cuts what arrives into messages."""

    __slots__ = ("_rest", "_wanted")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0
        """The size at which the first message of the rest is complete, as far as that is known."""

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """The messages that are complete now, in order, each without its length."""
        whole = memoryview(data)
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return  # only gathered: no piece of a large message is copied twice
            whole, self._rest = memoryview(self._rest), bytearray()
        at, end = 0, len(whole)
        self._wanted = _LENGTH
        while at + _LENGTH <= end:
            begin = at + _LENGTH
            length = int.from_bytes(whole[at:begin], "big")
            if begin + length > end:
                self._wanted = _LENGTH + length
                break
            at = begin + length
            yield whole[begin:at]
        if at < end:
            self._rest += whole[at:]
