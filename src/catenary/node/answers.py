"""Answers to requests for history, encoded once for all who have missed the same.

A crowd that was cut off at once comes back from the same place: who shares identifier and encoder, and
has missed the same messages, gets the same bytes. What is more than a slice is encoded slice by slice, when
each is sent: clients that ask for the same at about the same time share the slices.
Knows: messages and encoders. Does not know: who asks, where a history is.
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
"""What is kept makes room for the next: the oldest goes first. A larger slice is not kept."""

ANSWER_BYTES: Final = 500
"""What a slice costs beside its bytes, measured in CPython 3.11."""

MESSAGE_BYTES: Final = 600
"""What a message counts beside its data: 54 in a slice, however short they are, which take 150 µs."""

Messages = tuple[Publication, ...]
Run = Sequence[Publication]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What to write: frames in a row; ``messages`` is how many of them are published messages."""

    row: bytes
    messages: int


class Answers:
    """Those of the last second or so."""

    __slots__ = ("_kept", "_size_bytes")

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Answer] = OrderedDict()
        self._size_bytes = 0

    def answer(
        self, encoder: Encoder, identifier: Identifier, found: Collection[Messages]
    ) -> Answer | Iterator[Answer]:
        """What was missed on each stream, and the confirmation after it: in one row, or in several
        where it is more than a slice."""
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
    ) -> Iterator[Answer]:
        while second is not None:
            yield self._row(encoder, identifier, first, is_last=False)
            first, second = second, next(rest, None)
        yield self._row(encoder, identifier, first, is_last=True)

    def _row(
        self, encoder: Encoder, identifier: Identifier, found: list[Run], *, is_last: bool
    ) -> Answer:
        # Histories have no holes: where a piece begins and ends says what is in it.
        key = (encoder, identifier, is_last, *_ends(found))
        answer = self._kept.get(key)
        if answer is None:
            answer = encoded(encoder, identifier, found)
            if is_last:
                confirmation = encoder.encode(HistoryConfirmed(identifier)) or b""
                answer = Answer(answer.row + confirmation, answer.messages)
            self._keep(key, answer)
        return answer

    def forget(self) -> None:
        """To be called every second or so: whoever still wants one has it encoded again."""
        self._kept.clear()
        self._size_bytes = 0

    def _keep(self, key: tuple[object, ...], answer: Answer) -> None:
        size = len(answer.row) + ANSWER_BYTES
        if size > KEPT_BYTES:
            return
        self._kept[key] = answer
        self._size_bytes += size
        while self._size_bytes > KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._size_bytes -= len(oldest.row) + ANSWER_BYTES


def sliced(found: Iterable[Iterable[Publication]]) -> Iterator[list[Run]]:
    """Messages in parts of about a slice, each of them runs of one stream; nothing where there are none."""
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


def encoded(encoder: Encoder, identifier: Identifier, found: Iterable[Run]) -> Answer:
    """Messages as one row."""
    frames = [delivery_frame(encoder, identifier, each) for messages in found for each in messages]
    return Answer(b"".join(frames), len(frames))


def _ends(found: Iterable[Run]) -> list[tuple[Stream, Position | None, Position | None]]:
    return [
        (messages[0].stream, messages[0].position, messages[-1].position)
        for messages in found
        if messages
    ]
