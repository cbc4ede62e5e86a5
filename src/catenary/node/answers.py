"""Answers to requests for history, encoded once for all who have missed the same.

A crowd that was cut off at once comes back from the same place: who shares identifier and encoder, and
has missed the same messages, gets the same bytes, in one write.
Knows: messages and encoders. Does not know: who asks, where a history is.
"""

from collections.abc import Collection
from typing import Final

import msgspec

from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position, Publication
from catenary.messages.replies import HistoryConfirmed
from catenary.node.audience import delivery_frame
from catenary.node.encoder import Encoder

KEPT_BYTES: Final = 4_194_304
"""A larger answer is not kept, and what is kept makes room for the next."""

ANSWER_BYTES: Final = 500
"""What an answer costs beside its bytes, measured in CPython 3.11."""

Messages = tuple[Publication, ...]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What to write: frames in a row, the confirmation last; ``messages`` is how many those are
    without it."""

    row: bytes
    messages: int


class Answers:
    """Those of the last second or so."""

    __slots__ = ("_kept", "_size_bytes")

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Answer] = {}
        self._size_bytes = 0

    def answer(
        self, encoder: Encoder, identifier: Identifier, found: Collection[Messages]
    ) -> Answer:
        """What was missed on each stream, and the confirmation behind it."""
        # Histories have no holes: where a piece begins and ends says what is in it.
        ends = [_ends(messages) for messages in found if messages]
        key = (encoder, identifier, *ends)
        answer = self._kept.get(key)
        if answer is None:
            answer = _encoded(encoder, identifier, found)
            self._keep(key, answer)
        return answer

    def forget(self) -> None:
        """To be called every second or so: whoever still wants one has it encoded anew."""
        self._kept.clear()
        self._size_bytes = 0

    def _keep(self, key: tuple[object, ...], answer: Answer) -> None:
        size = len(answer.row) + ANSWER_BYTES
        if self._size_bytes + size > KEPT_BYTES:
            self.forget()
        if size <= KEPT_BYTES:
            self._kept[key] = answer
            self._size_bytes += size


def _ends(messages: Messages) -> tuple[Stream, Position | None, Position | None]:
    return messages[0].stream, messages[0].position, messages[-1].position


def _encoded(encoder: Encoder, identifier: Identifier, found: Collection[Messages]) -> Answer:
    frames = [delivery_frame(encoder, identifier, each) for messages in found for each in messages]
    confirmation = encoder.encode(HistoryConfirmed(identifier)) or b""
    return Answer(b"".join([*frames, confirmation]), len(frames))
