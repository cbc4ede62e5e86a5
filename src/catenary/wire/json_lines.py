"""JSON Lines: one JSON text in each line, the messages of long polling.

Source: https://jsonlines.org; "Communication format" of docs/long_polling.md (anycable). Knows: line feeds. Does not
know: the meaning of payloads.
"""

import functools
from collections.abc import Iterator
from typing import Final

from catenary.wire.framing import Framing, frame_whole

_END: Final = b"\n"


def _line(payload: bytes) -> bytes:
    """Line feeds of JSON are white space between its tokens: applications publish JSON with indentation."""
    return payload.replace(b"\n", b" ") + _END


LINES: Final = Framing(_line, functools.partial(frame_whole, _line), ping=_END)
"""An empty line, which clients pass over, is the transport's own ping: it ends a poll, and the next poll answers it."""


def lines_of(body: bytes) -> Iterator[bytes]:
    """The lines of a body that are not empty; the last one need not end with a line feed."""
    return (line for line in body.split(_END) if line and not line.isspace())
