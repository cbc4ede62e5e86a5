"""A publication on its way between nodes, and as it is kept. Its position stands in the headers.

The stream travels too, because long names are hashed in subjects.
Knows: publications, bytes. Does not know: NATS.
"""

from typing import Final

import msgspec

from catenary.adapters import packing
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication


class _Sent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    stream: Stream
    data: str
    exclude_socket: Sid | None
    kind: str
    transient: bool


_unpack: Final = packing.reader(_Sent)


def pack(publication: Publication) -> bytes:
    """All but the position. Raises ValueError for text that is no Unicode."""
    return packing.pack(
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
