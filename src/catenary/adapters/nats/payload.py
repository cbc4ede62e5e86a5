"""A publication on its way between nodes, and as it is kept. Its position stands in the headers.

The stream travels too, because long names are hashed in subjects.
Knows: publications, bytes. Does not know: NATS.
"""

from typing import Final

import msgspec

from catenary.adapters import packing
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication, RemoteDisconnect


class _Sent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    stream: Stream
    data: str
    exclude_socket: Sid | None
    kind: str
    transient: bool


class _Disconnect(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="disconnect"):
    identifiers: str
    reconnect: bool


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = packing.reader(_Sent)
_unpack_command: Final = packing.reader(_Disconnect)


def pack(publication: Publication) -> bytes:
    """All but the position. Raises ValueError for text that is no Unicode."""
    return _pack(
        _Sent(
            publication.stream,
            publication.data,
            publication.exclude_socket,
            publication.kind,
            publication.transient,
        )
    )


def unpack(payload: bytes, position: Position | None) -> Publication:
    """Reads it. Raises ValueError for anything else."""
    sent = _unpack(payload)
    return Publication(
        sent.stream, sent.data, sent.exclude_socket, sent.kind, sent.transient, position
    )


def pack_command(command: RemoteDisconnect) -> bytes:
    """A command for every node."""
    return _pack(_Disconnect(command.identifiers, command.reconnect))


def unpack_command(payload: bytes) -> RemoteDisconnect:
    """Reads it. Raises ValueError for anything else."""
    command = _unpack_command(payload)
    return RemoteDisconnect(command.identifiers, command.reconnect)
