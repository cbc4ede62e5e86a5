"""Protobuf's wire format, as far as the messages of every command need it.

The library takes three times as long for messages of this size: most of that is the way into it and
back. Source: protobuf.dev, "Encoding". Knows: keys, lengths, text. Does not know: messages.
"""

from collections.abc import Mapping
from typing import Final

_LENGTH_DELIMITED: Final = 2

Key = tuple[bytes, ...]
"""What stands before a text, bytes or a message: the field's number and the length, for each length
that takes one byte."""


def key(number: int) -> Key:
    """For a field up to 15."""
    return tuple(bytes((number << 3 | _LENGTH_DELIMITED, size)) for size in range(0x80))


def text(key: Key, value: str) -> bytes:
    """A field of text, nothing for an empty one. Raises ValueError for text that is no Unicode."""
    if not value:
        return b""
    raw = value.encode()
    size = len(raw)
    return key[size] + raw if size < 0x80 else key[0][:1] + varint(size) + raw


def block(key: Key, raw: bytes) -> bytes:
    """A field of bytes, or of a message."""
    size = len(raw)
    return key[size] + raw if size < 0x80 else key[0][:1] + varint(size) + raw


def texts(key: Key, values: Mapping[str, str]) -> bytes:
    """A map from text to text: each entry is a message of its own."""
    return b"".join(
        [block(key, text(_ENTRY_KEY, name) + text(_ENTRY_VALUE, values[name])) for name in values]
    )


def varint(number: int) -> bytes:
    """A number of any size, in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_ENTRY_KEY: Final = key(1)
_ENTRY_VALUE: Final = key(2)
