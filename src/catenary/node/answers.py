"""Answers to requests for history, encoded once for all clients that missed the same messages.

Clients that lost their connections at the same moment ask for the same messages: those that share identifier and
encoder get the same bytes. A large answer is encoded slice by slice, when each slice is sent; clients that ask for it at
about the same time share the slices.
Knows: messages and encoders. Does not know: clients, where a history is stored.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position, Publication
from catenary.messages.replies import HistoryConfirmed
from catenary.node.audience import delivery_frame
from catenary.node.encoder import Encoder
from catenary.ports import SLICE_BYTES

KEPT_BYTES: Final = 4_194_304
"""Size of the cache: the oldest answers are removed first. A larger slice is not kept."""

ANSWER_BYTES: Final = 500
"""The memory of a cached slice beside its bytes, measured in CPython 3.11."""

MESSAGE_BYTES: Final = 600
"""The cost of a message in a slice beside its data: a slice has up to 54 messages, however short, which take 150 µs."""

Messages = tuple[Publication, ...]
Run = Sequence[Publication]


class FrameBatch(msgspec.Struct, frozen=True, gc=False):
    """Joined frames; ``messages`` is how many of them are published messages."""

    row: bytes
    messages: int


class Answers:
    """A cache of the answers of the last second or so."""

    __slots__ = ("_kept", "_size_bytes")

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], FrameBatch] = OrderedDict()
        self._size_bytes = 0

    def answer(
        self, encoder: Encoder, identifier: Identifier, found: Collection[Messages]
    ) -> FrameBatch | Iterator[FrameBatch]:
        """Encodes the messages of each stream that a client missed, and the confirmation: one answer, or an iterator of
        several if it is more than a slice."""
        key = (encoder, identifier, True, *_ends(found))
        answer = self._kept.get(key)
        if answer is not None:
            return answer
        slices = sliced(found)
        first = next(slices, [])
        second = next(slices, None)
        if second is None:
            return self._row(encoder, identifier, first, is_last=True)
        return self._rows(encoder, identifier, first, second, slices)

    def _rows(
        self,
        encoder: Encoder,
        identifier: Identifier,
        first: list[Run],
        second: list[Run] | None,
        rest: Iterator[list[Run]],
    ) -> Iterator[FrameBatch]:
        while second is not None:
            yield self._row(encoder, identifier, first, is_last=False)
            first, second = second, next(rest, None)
        yield self._row(encoder, identifier, first, is_last=True)

    def _row(
        self, encoder: Encoder, identifier: Identifier, found: list[Run], *, is_last: bool
    ) -> FrameBatch:
        # Histories have no gaps: the first and the last position of a part identify its messages.
        key = (encoder, identifier, is_last, *_ends(found))
        answer = self._kept.get(key)
        if answer is None:
            answer = encoded(encoder, identifier, found)
            if is_last:
                confirmation = encoder.encode(HistoryConfirmed(identifier, not found)) or b""
                answer = FrameBatch(answer.row + confirmation, answer.messages)
            self._keep(key, answer)
        return answer

    def forget(self) -> None:
        """Empties the cache. To be called every second or so."""
        self._kept.clear()
        self._size_bytes = 0

    def _keep(self, key: tuple[object, ...], answer: FrameBatch) -> None:
        size = len(answer.row) + ANSWER_BYTES
        if size > KEPT_BYTES:
            return
        self._kept[key] = answer
        self._size_bytes += size
        while self._size_bytes > KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._size_bytes -= len(oldest.row) + ANSWER_BYTES


def sliced(found: Iterable[Iterable[Publication]]) -> Iterator[list[Run]]:
    """Divides messages into parts of about a slice; a part consists of runs, each of one stream."""
    part: list[Run] = []
    room = SLICE_BYTES
    for messages in found:
        run: list[Publication] = []
        for each in messages:
            run.append(each)
            room -= MESSAGE_BYTES + len(each.data)
            if room <= 0:
                yield [*part, run]
                part, run, room = [], [], SLICE_BYTES
        if run:
            part.append(run)
    if part:
        yield part


def encoded(encoder: Encoder, identifier: Identifier, found: Iterable[Run]) -> FrameBatch:
    """Encodes messages as joined frames."""
    frames = [delivery_frame(encoder, identifier, each) for messages in found for each in messages]
    return FrameBatch(b"".join(frames), len(frames))


def _ends(found: Iterable[Run]) -> list[tuple[Stream, Position | None, Position | None]]:
    return [
        (messages[0].stream, messages[0].position, messages[-1].position)
        for messages in found
        if messages
    ]
