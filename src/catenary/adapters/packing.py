"""MessagePack for messages between nodes. Malformed input raises ValueError.

Knows: bytes, remote commands. Does not know: Redis, NATS, their formats for publications.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from catenary.messages.publications import RemoteDisconnect

_T = TypeVar("_T")


def reader(kind: type[_T]) -> Callable[[bytes], _T]:
    """Returns a decoder for one type, which raises ValueError for anything else."""
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


class _JsonDisconnect(msgspec.Struct, frozen=True, gc=False):
    identifier: str
    reconnect: bool = False


class _JsonCommand(msgspec.Struct, frozen=True, gc=False, tag_field="command", tag="disconnect"):
    """Source: "Remote commands" of docs/broadcasting.md (anycable)."""

    payload: _JsonDisconnect


class NumberedCommand(msgspec.Struct, frozen=True, gc=False):
    """A remote disconnect, with the number of its revocation; 0 if no sessions are stored."""

    command: RemoteDisconnect
    number: int


pack: Final = msgspec.msgpack.Encoder().encode
"""Raises ValueError for text with lone surrogates."""
_unpack_command: Final = reader(_Disconnect)
_read_json: Final = msgspec.json.Decoder(_JsonCommand).decode


def pack_command(command: RemoteDisconnect, number: int = 0) -> bytes:
    """Packs a command for every node."""
    return pack(_Disconnect(command.identifiers, command.reconnect, number))


def unpack_command(payload: bytes) -> NumberedCommand:
    """Unpacks it, or reads that of anycable-go, which is JSON and has no number. Raises ValueError for anything else."""
    if payload.startswith(b"{"):
        command_of_another = _read_json(payload)
        disconnect = command_of_another.payload
        return NumberedCommand(RemoteDisconnect(disconnect.identifier, disconnect.reconnect), 0)
    command = _unpack_command(payload)
    return NumberedCommand(RemoteDisconnect(command.identifiers, command.reconnect), command.number)
