"""How a publication travels between nodes and is kept: its position in front, then the rest.

    "<epoch> <offset> " + MessagePack          kept in the history
    "  " + MessagePack                         not kept: it has no position

The position stands apart because Redis hands it out: a script writes it before what it was given.
The stream is not told: the channel, or the key of the history, says it.
Knows: publications, bytes. Does not know: Redis.
"""

from typing import Final

import msgspec

from catenary.adapters import packing
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication

NOWHERE: Final = b"  "
"""Before what has no position."""


class _Rest(msgspec.Struct, frozen=True, gc=False, array_like=True):
    data: str
    exclude_socket: Sid | None
    kind: str
    transient: bool


_unpack_rest: Final = packing.reader(_Rest)


def pack(publication: Publication) -> bytes:
    """All but the stream and the position."""
    return packing.pack(
        _Rest(
            publication.data,
            publication.exclude_socket,
            publication.kind,
            publication.transient,
        )
    )


def unpack(stream: Stream, payload: bytes) -> Publication:
    """Reads what was published on a stream. Raises ValueError for anything else."""
    epoch, offset, packed = payload.split(b" ", 2)
    rest = _unpack_rest(packed)
    position = Position(epoch.decode(), int(offset)) if epoch else None
    return Publication(stream, rest.data, rest.exclude_socket, rest.kind, rest.transient, position)
