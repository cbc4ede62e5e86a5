"""The header blocks of HTTP/2 (RFC 9113, sections 8.2 and 8.3): those of responses are read and checked, those of requests written.

Most blocks of a connection are the same: both are cached while the table of HPACK stays the same.
Knows: HPACK, fields. Does not know: frames, streams.
"""

import re
from typing import Final

from catenary.wire.hpack import BlockReader, BlockWriter, Field, HeaderListTooLarge, HpackError
from catenary.wire.http2_frames import COMPRESSION_ERROR, Http2Error

Headers = dict[bytes, bytes]
"""The fields of a message, pseudo-header fields included. Messages with the same block share one object."""

MAX_BLOCK_BYTES: Final = 65_536
"""The maximum of a message's header fields, both as sent and as counted in MAX_HEADER_LIST_SIZE."""

_CACHED_BLOCKS: Final = 128
_CACHED_BLOCK_BYTES: Final = 256

_POST: Final = (b":method", b"POST")

_STATUS: Final = re.compile(rb"[1-9][0-9][0-9]").fullmatch
_NAME: Final = re.compile(rb"[!-9;-@[-~]+").fullmatch
"""Visible, no capital letters, no colon: that is for pseudo-fields."""
_VALUE: Final = re.compile(rb"[^\0\r\n]*").fullmatch


class MalformedResponse(Exception):
    """A response that violates section 8: an error of the stream, not of the connection."""


class ResponseBlocks:
    """Reads the blocks of responses. ``cached`` has those that can be looked up without reading them again."""

    __slots__ = ("_changes", "_reader", "cached")

    def __init__(self) -> None:
        self._reader = BlockReader(MAX_BLOCK_BYTES)
        self._changes = 0
        """Changes of the table at the time of the cached blocks."""
        self.cached: dict[bytes, Headers] = {}

    def read(self, block: bytes) -> Headers:
        """Reads a block that is not cached. Raises Http2Error, :class:`MalformedResponse`."""
        try:
            fields = self._reader.read(block)
        except HpackError as error:
            raise Http2Error(COMPRESSION_ERROR, str(error)) from None
        except HeaderListTooLarge as error:
            raise MalformedResponse(str(error)) from None
        finally:
            is_new = self._reader.changes != self._changes
            if is_new or len(self.cached) >= _CACHED_BLOCKS:
                self.cached.clear()
                self._changes = self._reader.changes
        headers = _checked(fields)
        if not is_new and len(block) <= _CACHED_BLOCK_BYTES:
            self.cached[block] = headers
        return headers


class RequestBlocks:
    """Writes the blocks of requests, which share all fields but the path. ``cached`` has them by path."""

    __slots__ = ("_changes", "_fields", "_writer", "cached")

    def __init__(self, fields: tuple[Field, ...]) -> None:
        """``fields`` follow the method and the path; pseudo-header fields first."""
        self._fields = fields
        self._writer = BlockWriter()
        self._changes = 0
        self.cached: dict[bytes, bytes] = {}

    def write(self, path: bytes) -> bytes:
        """Writes a block that is not cached."""
        block = self._writer.write((_POST, (b":path", path), *self._fields))
        if self._changes == self._writer.changes:
            self.cached[path] = block
        else:
            # Indexes count from the newest entry: a new entry changes the blocks of all paths.
            self.cached.clear()
            self._changes = self._writer.changes
        return block

    def limit_table(self, size: int) -> None:
        """Sets the size of the table, as the server demands."""
        self._writer.limit_table(size)
        self.cached.clear()


def _checked(fields: list[Field]) -> Headers:
    """Checks and collects fields. Raises :class:`MalformedResponse`."""
    headers: Headers = {}
    for name, value in fields:
        if name == b":status":
            if headers or not _STATUS(value):
                raise MalformedResponse("expected one status of three digits, before all fields")
        elif not _NAME(name) or not _VALUE(value):
            raise MalformedResponse("expected names and values of header fields")
        headers[name] = value
    return headers
