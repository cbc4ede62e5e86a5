"""MessagePack as it comes from elsewhere: whatever is wrong with it is a ValueError.

Knows: bytes. Does not know: what they mean.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def reader(kind: type[_T]) -> Callable[[bytes], _T]:
    """Reads values of one type. What it returns raises ValueError for anything else."""
    decode = msgspec.msgpack.Decoder(kind).decode

    def read(packed: bytes) -> _T:
        try:
            return decode(packed)
        except RecursionError as error:
            raise ValueError(f"expected less depth: {error}") from error

    return read
