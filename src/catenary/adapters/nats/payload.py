"""The payload of a publication between nodes and in JetStream. Its position is in the headers.

It contains the name of the stream, because subjects contain a hash of long names.
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


class _TracedSent(_Sent, frozen=True, gc=False, array_like=True):
    """Only publications that are traced have this field, so that it costs others nothing."""

    trace: str = ""


_unpack: Final = packing.reader(_TracedSent)


def pack(publication: Publication) -> bytes:
    """Encodes everything but the position. Raises ValueError for text that is not Unicode."""
    sent = (
        publication.stream,
        publication.data,
        publication.exclude_socket,
        publication.kind,
        publication.transient,
    )
    return packing.pack(
        _TracedSent(*sent, publication.trace) if publication.trace else _Sent(*sent)
    )


def unpack(payload: bytes, position: Position | None) -> Publication:
    """Decodes a payload. Raises ValueError for anything else."""
    sent = _unpack(payload)
    return Publication(
        sent.stream,
        sent.data,
        sent.exclude_socket,
        sent.kind,
        sent.transient,
        position,
        sent.trace,
    )
