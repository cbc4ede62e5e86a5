"""Header compression of HTTP/2 (RFC 7541): blocks → fields, and fields → blocks.

Own code because proxies add fields that differ in every response (a date, a duration): then every block is new and
takes the library ``hpack`` 70 to 90 µs, more than the rest of a call.
Knows: tables and bits. Does not know: frames, which fields a message must have.
"""

from collections import deque
from functools import lru_cache
from typing import Final

Field = tuple[bytes, bytes]
"""Name and value."""

TABLE_BYTES: Final = 4_096
"""The default size of a dynamic table (RFC 9113, section 6.5.2)."""

_ENTRY_OVERHEAD: Final = 32
"""Counted for an entry besides its name and value (section 4.1)."""

_HUFFMAN: Final = 0x80
_NO_TABLE: Final = b"\x20"
"""A dynamic table size update to 0 (section 6.3)."""

_INTEGER_BYTES: Final = 4
"""The maximum of bytes after the first of an integer: 28 bits; no valid one here needs more than 17."""

_REMEMBERED_STEPS: Final = 8_192
"""Of 65,536 possible ones: enough for usual texts, in less than 2 MB."""


class HpackError(Exception):
    """An invalid block. Later blocks of the same connection can't be read, either."""


class HeaderListTooLarge(Exception):
    """A block that exceeds the reader's limit. Later blocks can be read."""


class BlockReader:
    """Reads the blocks of one side, in the order in which they were sent."""

    __slots__ = ("_entries", "_limit_bytes", "_size_bytes", "_used_bytes", "changes")

    def __init__(self, max_list_bytes: int) -> None:
        """``max_list_bytes`` is counted as in SETTINGS_MAX_HEADER_LIST_SIZE: 32 more for each field."""
        self._limit_bytes = max_list_bytes
        self._entries: deque[Field] = deque()
        self._size_bytes = TABLE_BYTES
        self._used_bytes = 0
        self.changes = 0
        """Number of changes of the table: while it is the same, the same block has the same fields."""

    def read(self, block: bytes) -> list[Field]:
        """Raises :class:`HpackError` and :class:`HeaderListTooLarge`."""
        fields: list[Field] = []
        list_bytes = at = 0
        end = len(block)
        try:
            while at < end:
                first = block[at]
                if first & 0x80:  # section 6.1
                    index, at = _integer(block, at, 0x7F)
                    field = self._field(index)
                elif first & 0x40:  # section 6.2.1
                    field, at = self._literal(block, at, 0x3F)
                    self._insert(field)
                elif first & 0x20:  # section 6.3
                    if list_bytes:
                        raise HpackError("expected a size update before all fields")
                    size, at = _integer(block, at, 0x1F)
                    self._resize(size)
                    continue
                else:  # sections 6.2.2 and 6.2.3
                    field, at = self._literal(block, at, 0x0F)
                list_bytes += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
                if list_bytes <= self._limit_bytes:
                    fields.append(field)
        except IndexError:
            raise HpackError("expected a complete block") from None
        if list_bytes > self._limit_bytes:
            raise HeaderListTooLarge(
                f"expected header fields of up to {self._limit_bytes} bytes, got {list_bytes}"
            )
        return fields

    def _field(self, index: int) -> Field:
        """Section 2.3.3."""
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        place = index - len(_STATIC) - 1
        if not 0 <= place < len(self._entries):
            raise HpackError(f"expected the index of a field, got {index}")
        return self._entries[place]

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Field, int]:
        index, at = _integer(block, at, mask)
        if index:
            name = self._field(index)[0]
        else:
            name, at = self._text(block, at)
        value, at = self._text(block, at)
        return (name, value), at

    def _text(self, block: bytes, at: int) -> tuple[bytes, int]:
        """Section 5.2."""
        is_huffman = block[at] & _HUFFMAN
        size, at = _integer(block, at, 0x7F)
        end = at + size
        if end > len(block):
            raise HpackError("expected a whole string, got its beginning")
        text = block[at:end]
        if is_huffman:
            text = decode_huffman(text)
        return text, end

    def _insert(self, field: Field) -> None:
        """Section 4.4: an entry that is larger than the table empties it."""
        self.changes += 1
        self._entries.appendleft(field)
        self._used_bytes += _entry_bytes(field)
        self._evict()

    def _resize(self, size: int) -> None:
        if size > TABLE_BYTES:
            raise HpackError(f"expected a table of up to {TABLE_BYTES} bytes, got {size}")
        self.changes += 1
        self._size_bytes = size
        self._evict()

    def _evict(self) -> None:
        while self._used_bytes > self._size_bytes:
            self._used_bytes -= _entry_bytes(self._entries.pop())


class BlockWriter:
    """Writes the blocks of this side. They must be sent in the order in which they were written."""

    __slots__ = ("_entries", "_forget", "_may_index", "_used_bytes", "changes")

    def __init__(self) -> None:
        self._entries: dict[Field, int] = {}
        self._used_bytes = 0
        self._may_index = True
        self._forget = False
        self.changes = 0
        """Number of changes of the table: while it is the same, the same fields have the same block."""

    def limit_table(self, size_bytes: int) -> None:
        """The reader has set SETTINGS_HEADER_TABLE_SIZE: a table smaller than the default is not used at all."""
        if size_bytes < TABLE_BYTES and self._may_index:
            self._may_index = False
            self._forget = True
            self._entries.clear()
            self.changes += 1

    def write(self, fields: tuple[Field, ...]) -> bytes:
        """The block of fields, which are added to the table if there is room."""
        pieces: list[bytes] = []
        if self._forget:
            pieces.append(_NO_TABLE)
            self._forget = False
            self.changes += 1
        for field in fields:
            static = _STATIC_INDEX.get(field)
            if static is not None:
                pieces.append(_packed(static, 0x7F, 0x80))
            elif field in self._entries:
                age = len(self._entries) - self._entries[field]
                pieces.append(_packed(len(_STATIC) + age, 0x7F, 0x80))
            elif self._may_index and self._used_bytes + _entry_bytes(field) <= TABLE_BYTES:
                self._entries[field] = len(self._entries)
                self._used_bytes += _entry_bytes(field)
                self.changes += 1
                pieces.append(b"\x40" + _string(field[0]) + _string(field[1]))
            else:
                pieces.append(literal(*field))
        return b"".join(pieces)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that is not added to the table (section 6.2.2): may be appended to any block."""
    return b"\x00" + _string(name) + _string(value)


def decode_huffman(code: bytes) -> bytes:
    """Section 5.2. Raises :class:`HpackError`."""
    text = bytearray()
    path = 1
    for byte in code:
        path, symbols = _step(path, byte)
        text += symbols
    # "A padding strictly longer than 7 bits MUST be treated as a decoding error", as must one that is not a prefix of
    # the code for the end of a string, which is all ones.
    if path & (path + 1) or path >= 1 << 8:
        raise HpackError("expected padding of up to seven ones")
    return bytes(text)


@lru_cache(_REMEMBERED_STEPS)
def _step(path: int, byte: int) -> tuple[int, bytes]:
    """Follows eight bits from a node of the tree: the node reached, and the symbols on the way."""
    symbols = bytearray()
    for shift in _SHIFTS:
        path = path << 1 | (byte >> shift & 1)
        symbol = _SYMBOLS.get(path)
        if symbol is not None:
            if symbol == _END:
                raise HpackError("expected no end of string inside a string")
            symbols.append(symbol)
            path = 1
    return path, bytes(symbols)


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Section 5.1: the integer, and its end."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(0, 7 * _INTEGER_BYTES, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("expected a smaller integer")


def _packed(value: int, mask: int, pattern: int) -> bytes:
    """Section 5.1: encodes an integer."""
    if value < mask:
        return bytes((pattern | value,))
    packed = bytearray((pattern | mask,))
    value -= mask
    while value >= 0x80:
        packed.append(value & 0x7F | 0x80)
        value >>= 7
    packed.append(value)
    return bytes(packed)


def _string(text: bytes) -> bytes:
    size = len(text)
    return (bytes((size,)) if size < 0x7F else _packed(size, 0x7F, 0)) + text


def _entry_bytes(field: Field) -> int:
    return len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD


# Appendix A.
_STATIC: Final[tuple[Field, ...]] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    *((b":status", status) for status in b"200 204 206 304 400 404 500".split()),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            b"accept-language accept-ranges accept access-control-allow-origin age allow "
            b"authorization cache-control content-disposition content-encoding content-language "
            b"content-length content-location content-range content-type cookie date etag expect "
            b"expires from host if-match if-modified-since if-none-match if-range "
            b"if-unmodified-since last-modified link location max-forwards proxy-authenticate "
            b"proxy-authorization range referer refresh retry-after server set-cookie "
            b"strict-transport-security transfer-encoding user-agent vary via www-authenticate"
        ).split()
    ),
)
_STATIC_INDEX: Final = {field: index for index, field in enumerate(_STATIC, 1)}

# Appendix B. The code is canonical: the lengths determine the codes, in the order of the symbols.
_CODE_BITS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a"
    "080b080606060505050606060606060607080f060c0a0d06070707070707070707070707070707070707"
    "070707070807080d130d0e060f05060506050606060507070606060506070605050607070707070f0b0e"
    "0d1c14161414161616171617171717171817181816171817171717151617161717181615141616171715"
    "1716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a18191315"
    "1a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b"
    "1b1b1b1a1e"
)
_END: Final = 256
_SHIFTS: Final = range(7, -1, -1)


def _symbols() -> dict[int, int]:
    """The symbol of each code, which is prefixed with a 1 to keep its leading zeros."""
    symbols: dict[int, int] = {}
    code = last = 0
    for bits, symbol in sorted((bits, symbol) for symbol, bits in enumerate(_CODE_BITS)):
        code <<= bits - last
        last = bits
        symbols[1 << bits | code] = symbol
        code += 1
    return symbols


_SYMBOLS: Final = _symbols()
