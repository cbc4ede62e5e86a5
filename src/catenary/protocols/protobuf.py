"""Protobuf's wire format, as far as the messages of commands need it.

The library is optional, and takes three times as long for messages of this size, mostly for the calls into it. Source:
protobuf.dev, "Encoding". Knows: keys, lengths, text. Does not know: messages.
"""

from collections.abc import Iterator, Mapping
from typing import Final

_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}
_LONGEST_VARINT: Final = 10
_INT64: Final = 2**64 - 1

Key = tuple[bytes, ...]
"""The prefix of a text, bytes or a message, by length: the field's number and the length, for each length of one byte."""


def key(number: int) -> Key:
    """For a field up to 15."""
    return tuple(bytes((number << 3 | _LENGTH_DELIMITED, size)) for size in range(0x80))


def text(key: Key, value: str) -> bytes:
    """A field of text; nothing if it is empty. Raises ValueError for text with lone surrogates."""
    if not value:
        return b""
    raw = value.encode()
    size = len(raw)
    return key[size] + raw if size < 0x80 else key[0][:1] + varint(size) + raw


def block(key: Key, raw: bytes) -> bytes:
    """A field of bytes or of a message."""
    size = len(raw)
    return key[size] + raw if size < 0x80 else key[0][:1] + varint(size) + raw


def head(key: Key, size: int) -> bytes:
    """The prefix of a field of ``size`` bytes."""
    return key[size] if size < 0x80 else key[0][:1] + varint(size)


def texts(key: Key, values: Mapping[str, str]) -> bytes:
    """A map from text to text: a message for each entry."""
    return b"".join(
        [block(key, text(_ENTRY_KEY, name) + text(_ENTRY_VALUE, values[name])) for name in values]
    )


def varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def number(field: int, value: int) -> bytes:
    """A field of a number, an enum or a bool (up to field 15); nothing for 0. A negative number is an int64."""
    return bytes((field << 3,)) + varint(value & _INT64) if value else b""


def read_fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in order: number and value.

    A value is an unsigned number, or the bytes of a text or message. 32- and 64-bit values are skipped: no message here
    has them. Raises ValueError for an invalid message.
    """
    position, size = 0, len(raw)
    while position < size:
        tag, position = _read_varint(raw, position)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _read_varint(raw, position)
            yield field, value
            continue
        if kind == _LENGTH_DELIMITED:
            length, position = _read_varint(raw, position)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError(f"expected a wire type of proto3, got {kind}")
        if not field or length > size - position:
            raise ValueError(f"expected field {field} to end within the message")
        if kind == _LENGTH_DELIMITED:
            yield field, raw[position : position + length]
        position += length


def signed(value: int) -> int:
    """An int64, from its unsigned form on the wire."""
    return value - (1 << 64) if value >> 63 else value


def _read_varint(raw: bytes, position: int) -> tuple[int, int]:
    """An unsigned number of up to 64 bits, and the position after it."""
    value = shift = 0
    for byte in raw[position : position + _LONGEST_VARINT]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _INT64, position
        shift += 7
    raise ValueError("expected a number of up to ten bytes")


_ENTRY_KEY: Final = key(1)
_ENTRY_VALUE: Final = key(2)
