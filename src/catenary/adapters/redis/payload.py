"""The format of publications between nodes and in histories: the position, then the rest.

    "<epoch> <offset> " + MessagePack          stored in the history
    "  " + MessagePack                         not stored: it has no position

The position is separate because Redis assigns it: a script writes it in front of the payload.
The stream is not included: it is the name of the channel or of the key.
Knows: publications, bytes. Does not know: Redis.
"""

from typing import Final

import msgspec

from catenary.adapters import packing
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication

NOWHERE: Final = b"  "
"""The position of a publication that has none."""


class _Rest(msgspec.Struct, frozen=True, gc=False, array_like=True):
    data: str
    exclude_socket: Sid | None
    kind: str
    transient: bool


class _TracedRest(_Rest, frozen=True, gc=False, array_like=True):
    """Only publications that are traced have this field, so that it costs others nothing."""

    trace: str = ""


_unpack_rest: Final = packing.reader(_TracedRest)


def pack(publication: Publication) -> bytes:
    """Packs everything but the stream and the position."""
    rest = (
        publication.data,
        publication.exclude_socket,
        publication.kind,
        publication.transient,
    )
    return packing.pack(
        _TracedRest(*rest, publication.trace) if publication.trace else _Rest(*rest)
    )


def unpack(stream: Stream, payload: bytes) -> Publication:
    """Unpacks a publication of a stream. Raises ValueError for anything else."""
    epoch, offset, packed = payload.split(b" ", 2)
    rest = _unpack_rest(packed)
    position = Position(epoch.decode(), int(offset)) if epoch else None
    return Publication(
        stream, rest.data, rest.exclude_socket, rest.kind, rest.transient, position, rest.trace
    )
