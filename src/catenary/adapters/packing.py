"""What travels between nodes, in MessagePack: whatever is wrong with it is a ValueError.

Knows: bytes, remote commands. Does not know: Redis, NATS, how publications are kept there.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from catenary.messages.publications import RemoteDisconnect

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


class _Disconnect(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="disconnect"):
    identifiers: str
    reconnect: bool
    number: int = 0


class NumberedCommand(msgspec.Struct, frozen=True, gc=False):
    """A remote disconnect, with the number of the revocation; 0 where no sessions are kept."""

    command: RemoteDisconnect
    number: int


pack: Final = msgspec.msgpack.Encoder().encode
"""Raises ValueError for text that is no Unicode."""
_unpack_command: Final = reader(_Disconnect)


def pack_command(command: RemoteDisconnect, number: int = 0) -> bytes:
    """A command for every node."""
    return pack(_Disconnect(command.identifiers, command.reconnect, number))


def unpack_command(payload: bytes) -> NumberedCommand:
    """Reads it. Raises ValueError for anything else."""
    command = _unpack_command(payload)
    return NumberedCommand(RemoteDisconnect(command.identifiers, command.reconnect), command.number)
