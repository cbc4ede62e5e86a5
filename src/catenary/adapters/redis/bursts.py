"""Publishes entries of a Redis stream in order, without waiting for each before it begins the next.

Knows: entries, the outcome of each. Does not know: reading the stream, retries.
Source: docs/broadcasting.md, "Redis X" (anycable).
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

from catenary.adapters.redis.consumer import READER, StreamEntry
from catenary.errors import BackendError, BackendRefused, PublicationError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.publications import QueueEntry
from catenary.messages.trace_context import TRACEPARENT, TRACESTATE, checked
from catenary.metrics.counters import Counters

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.redis"))


class Publish(Protocol):
    """Publishes an entry, as a part of a trace if it names one."""

    def __call__(
        self, raw: bytes, entry: QueueEntry, trace: str = ""
    ) -> Awaitable[None] | None: ...


BURST_BYTES: Final = 32_768
"""Bytes of the entries of one burst, which are read in one turn of the event loop. An entry that is larger is a burst
of its own: the node reads it over several turns, and no entry may be sent meanwhile."""


class Unfinished(NamedTuple):
    """The entries that a burst did not finish, in order; and the reason if publishing failed."""

    entries: list[StreamEntry]
    failure: BackendError | None


class _Dropped(Exception):
    """An entry can never be published. It was counted and logged."""


class Bursts:
    """Publishes entries of ``stream`` that ``group`` has read. ``publish`` keeps their order: if one
    fails, the later ones of the same message stream that were begun before the failure fail, too."""

    __slots__ = ("_counters", "_group", "_publish", "_stream")

    def __init__(self, stream: str, group: str, publish: Publish, counters: Counters) -> None:
        self._stream = stream
        self._group = group
        self._publish = publish
        self._counters = counters

    async def publish(
        self, entries: Sequence[StreamEntry], note_done: Callable[[StreamEntry], None]
    ) -> Unfinished:
        """Publishes some entries, up to :data:`BURST_BYTES`, or up to one that is dropped: that one has to leave the
        stream before later ones can. ``note_done`` is called for each that is published or dropped.
        """
        begun: list[Awaitable[None] | None] = []
        has_dropped = False
        failure: BackendError | None = None
        for entry in entries[: _fitting(entries)]:
            try:
                begun.append(self._begin(entry))
            except _Dropped:
                has_dropped = True
                begun.append(None)
                break
            except BackendError as error:
                failure = error
                break
        failed: list[StreamEntry] = []
        for entry, sent in zip(entries, begun, strict=False):
            try:
                if sent is not None:
                    await self._finish(entry, sent)
            except _Dropped:
                has_dropped = True
            except BackendError as error:
                failure = failure or error
                failed.append(entry)
                continue
            note_done(entry)
        # The others may have failed only because the dropped one is still in the stream.
        return Unfinished([*failed, *entries[len(begun) :]], None if has_dropped else failure)

    def _begin(self, entry: StreamEntry) -> Awaitable[None] | None:
        """Begins to publish one entry. Raises :class:`_Dropped` for a malformed publication, and
        :class:`BackendError`."""
        payload = _payload(entry)
        if payload is None:
            self._counters.failed_broadcast_msg_total += 1
            _limited.warning(
                "Publication refused: expected a field payload in the stream entry %s, got %r",
                entry.id.decode(),
                b" ".join(entry.fields or ())[:100],
            )
            raise _Dropped
        try:
            source = QueueEntry(self._stream, self._group, READER, entry.id.decode())
            return self._publish(payload, source, _trace(entry))
        except PublicationError as error:
            # Counted by the node; the publisher does not expect an answer.
            _refuse(error, payload)
            raise _Dropped from error
        except BackendError:
            raise
        except Exception as error:
            raise self._failed(payload) from error

    async def _finish(self, entry: StreamEntry, sent: Awaitable[None]) -> None:
        """Waits until an entry is published. Raises :class:`BackendError` if it must be retried, and
        :class:`_Dropped` if it can never be published."""
        try:
            await sent
        except PublicationError as error:
            _refuse(error, _payload(entry) or b"")
            raise _Dropped from error
        except BackendRefused as error:
            # A retry would be refused again, and no later entry would ever be published.
            self._counters.refused_publications_total += 1
            _refuse(error, _payload(entry) or b"")
            raise _Dropped from error
        except BackendError:
            raise
        except Exception as error:
            raise self._failed(_payload(entry) or b"") from error

    def _failed(self, payload: bytes) -> _Dropped:
        """Handles a bug of this server: retries would stop this node, and then every other one."""
        self._counters.failed_broadcast_msg_total += 1
        _limited.exception("Publication failed; it begins with %r", payload[:100])
        return _Dropped()


def _fitting(entries: Sequence[StreamEntry]) -> int:
    """How many entries are one burst: at least one."""
    size = 0
    for number, entry in enumerate(entries):
        size += sum(map(len, entry.fields or ()))
        if size > BURST_BYTES:
            return max(number, 1)
    return len(entries)


def _refuse(error: Exception, payload: bytes) -> None:
    _limited.warning(
        "Publication refused: %s; it begins with %r",
        error,
        payload[:100],
        event="publication_refused",
        reason=str(error),
    )


def _payload(entry: StreamEntry) -> bytes | None:
    """The value of the field ``payload``."""
    fields = entry.fields or []
    if len(fields) == 2:
        return fields[1] if fields[0] == b"payload" else None
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == b"payload":
            return value
    return None


def _trace(entry: StreamEntry) -> str:
    """The trace that the fields ``traceparent`` and ``tracestate`` name; most entries have neither."""
    fields = entry.fields or []
    if len(fields) == 2:
        return ""
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    parent, state = named.get(TRACEPARENT.encode(), b""), named.get(TRACESTATE.encode(), b"")
    return checked(parent.decode(errors="replace"), state.decode(errors="replace"))
