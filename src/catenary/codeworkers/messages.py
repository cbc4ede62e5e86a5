"""The IPC protocol between a serving process and its code workers.

A message is its length (4 bytes, big-endian) and a struct in MessagePack, as an array that begins with
the kind of message. Both ends have the same version, so the protocol may change with any release.
Calls, publications and queries have ids: many are under way at once, in both directions.
Pure: bytes ↔ messages. Does not know: sockets, calls under way.
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
"""A timer of a channel is due: ``data`` is its name."""

Kind = Literal[0, 1, 2, 3, 4, 5, 6]


class CallRequest(msgspec.Struct, array_like=True, tag=0, gc=False):
    """A call of the application, with the part of the client's state that the call may read."""

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
    trace: str
    """The span of the call (:attr:`catenary.messages.trace_context.TraceContext.text`), empty if it is not traced."""

    @property
    def environment(self) -> Environment:
        """The client as the application sees it."""
        return Environment(
            self.sid, self.url, self.headers, self.identifiers, self.cstate, self.istate
        )


class CancelCall(msgspec.Struct, array_like=True, tag=1, gc=False):
    """The client of a call has left. The worker cancels the call and still reports its outcome."""

    id: int


class PublicationResult(msgspec.Struct, array_like=True, tag=2, gc=False):
    """The outcome of a publication. ``error`` is empty if it was accepted; ``failure`` is the name of the exception."""

    id: int
    error: str
    failure: str = ""


class StopWorker(msgspec.Struct, array_like=True, tag=3, gc=False):
    """There are no more calls: the application has ``timeout_s`` to stop."""

    timeout_s: float


class QueryResult(msgspec.Struct, array_like=True, tag=4):
    """The result of a query, or a ``failure``: the name of an exception, with ``error`` as its text."""

    id: int
    members: tuple[Member, ...] = ()
    page: Page | None = None
    failure: str = ""
    error: str = ""


class Ready(msgspec.Struct, array_like=True, tag=4):
    """The code is loaded, and the worker accepts calls."""

    timers: tuple[DeclaredTimer, ...]


class CallResult(msgspec.Struct, array_like=True, tag=5, gc=False):
    """The decision of the application. Fields that most decisions leave empty are in ``rest``."""

    id: int
    verdict: int
    replies: "tuple[_Reply, ...]"
    rest: "_Rest | None"

    @property
    def decision(self) -> Decision:
        """The decision as the application returned it."""
        replies = tuple([_decode_reply(each) for each in self.replies])
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
            whisper_stream=rest.whisper_stream,
            presence_stream=rest.presence_stream,
            presence=rest.presence,
            error=rest.error,
            disconnect_wanted=rest.disconnect_wanted,
        )


class CallCancelled(msgspec.Struct, array_like=True, tag=6, gc=False):
    """A call was cancelled: there is no decision."""

    id: int


class PublishRequest(msgspec.Struct, array_like=True, tag=7, gc=False):
    """The application publishes; ``raw`` is the JSON of AnyCable's publishers, ``trace`` the span to which the publication
    belongs (:attr:`catenary.messages.trace_context.TraceContext.text`), or empty."""

    id: int
    raw: bytes
    trace: str = ""


class PresenceQuery(msgspec.Struct, array_like=True, tag=8, gc=False):
    """The application asks for the members of a stream."""

    id: int
    stream: Stream


class HistoryQuery(msgspec.Struct, array_like=True, tag=9, gc=False):
    """The application asks for a page of a history: see :meth:`catenary.channels.reading.Reader.page`."""

    id: int
    stream: Stream
    start: int | Position
    limit: int
    newest: bool


class CounterDeltas(msgspec.Struct, array_like=True, tag=10, gc=False):
    """Increments of the counters of :class:`catenary.channels.application.CableApplication`."""

    limited: int
    failed: int
    slow: int


ToWorker = CallRequest | CancelCall | PublicationResult | StopWorker | QueryResult
FromWorker = (
    Ready
    | CallResult
    | CallCancelled
    | PublishRequest
    | PresenceQuery
    | HistoryQuery
    | CounterDeltas
)


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
    """The other fields of :class:`Decision`."""

    identifiers: str = ""
    transmissions: tuple[str, ...] = ()
    streams: tuple[Stream, ...] = ()
    stopped_streams: tuple[Stream, ...] = ()
    stop_all_streams: bool = False
    disconnect: bool = False
    cstate: dict[str, str] | None = None
    istate: dict[str, str] | None = None
    whisper_stream: Stream | None = None
    presence_stream: Stream | None = None
    presence: PresenceCommand | None = None
    error: str = ""
    disconnect_wanted: bool | None = None


_VERDICTS: Final = tuple(Verdict)
_NUMBERS: Final = {verdict: number for number, verdict in enumerate(_VERDICTS)}


def call_request(
    id: int,
    kind: Kind,
    environment: Environment,
    identifier: Identifier,
    *,
    data: str,
    subscriptions: tuple[Identifier, ...],
    trace: str = "",
) -> CallRequest:
    """The message for a call, with the environment of the client as it is now."""
    istate = environment.istate
    if istate is not None and kind != DISCONNECT:
        own = istate.get(identifier)
        istate = None if own is None else {identifier: own}
    return CallRequest(
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
        trace,
    )


def call_result(id: int, decision: Decision) -> CallResult:
    """The message for a decision. Raises ValueError for a reply that applications do not send."""
    replies = tuple([_encode_reply(each) for each in decision.replies])
    return CallResult(id, _NUMBERS[decision.verdict], replies, _rest(decision))


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
        or decision.whisper_stream is not None
        or decision.presence_stream is not None
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
        whisper_stream=decision.whisper_stream,
        presence_stream=decision.presence_stream,
        presence=decision.presence,
        error=decision.error,
        disconnect_wanted=decision.disconnect_wanted,
    )


def _encode_reply(reply: Reply) -> _Reply:
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
            raise ValueError(f"expected a reply of an application, got {type(reply).__name__}")


def _decode_reply(reply: _Reply) -> Reply:
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
    """Appends one message to ``out``. Raises ValueError for text that is not Unicode, and leaves ``out`` unchanged."""
    start = len(out)
    try:
        _encoder.encode_into(message, out, start + _LENGTH)
    except ValueError:
        del out[start:]
        raise
    out[start : start + _LENGTH] = (len(out) - start - _LENGTH).to_bytes(_LENGTH, "big")


class MessageSplitter:
    """Splits received bytes into messages."""

    __slots__ = ("_rest", "_wanted")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0
        """The size at which ``_rest`` contains a whole message; its length may not be known yet."""

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Yields the messages that are complete now, in order, without their lengths."""
        whole = memoryview(data)
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return  # pieces of a large message are collected without copying them again
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
