r"""Reads JSON that JSON.parse accepts and msgspec refuses.

| text | msgspec | here |
|---|---|---|
| half of a surrogate pair: ``"\ud83c"`` | malformed | U+FFFD, which strict clients can read, too |
| more than some 900 levels of arrays and objects | RecursionError | up to :data:`DEPTH` where text is passed on or searched; an error where values are made |
| ``1e400``, integers of more than 4,300 digits | out of range | passed on as they are; infinite where values are made |

Each is tried only after msgspec has failed, so other text costs nothing more. Text that is not UTF-8 is refused.
Source: RFC 8259, sections 6 to 9; ECMA-262, JSON.parse. Knows: text. Does not know: what it means.
"""

import re
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import msgspec

T = TypeVar("T")
Text = bytes | str

JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""The exceptions of msgspec's decoders."""

DEPTH: Final = 10_000
"""Levels of nesting, as in anycable-go (encoding/json of Go). Python 3.12 stops at 1,500, Python 3.14 where its stack ends: at some
260,000 levels of text that is passed on, and 20,000 of values."""

# Unpaired surrogates, in text whose escaped backslashes were replaced before.
_LONE_HALF = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# An unterminated string matches, too, so that it is not searched again from each of its quotes.
_STRING_OR_LONG_INTEGER = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"?|(?<![0-9.])-?[0-9]{4300,}(?![0-9.eE])', re.DOTALL
)
_check: Final = msgspec.json.Decoder(msgspec.Raw).decode


def without_surrogates(text: str) -> str:
    """Replaces surrogates by U+FFFD. Arguments that are not UTF-8 contain them (PEP 383)."""
    return _SURROGATE.sub("\ufffd", text)


def repaired(text: Text) -> str | None:
    """Replaces unpaired surrogates by U+FFFD; None if there is none."""
    try:
        whole = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError:
        return None
    if "\\u" not in whole or "\0" in whole:  # with a NUL, it is malformed in any case
        return None
    hidden = whole.replace("\\\\", "\0")
    changed = _LONE_HALF.sub(r"\\ufffd", hidden)
    return None if changed == hidden else changed.replace("\0", "\\\\")


def read_again(decode: Callable[[Text], T], text: Text, error: Exception) -> T:
    """Decodes a text again, leniently, after msgspec has failed with ``error``.

    For types of texts, numbers and :class:`msgspec.Raw`: a decoder skips all other values, which takes 40 bytes of the
    stack for each level of nesting. Raises only :class:`msgspec.DecodeError`.
    """
    _check_utf8(text)
    better = repaired(text)
    if better is not None:
        text = better
        try:
            return decode(text)
        except JSON_ERRORS as again:
            error = again
    if not isinstance(error, RecursionError):
        raise _decode_error(error)
    usual = sys.getrecursionlimit()
    # During one call in C, which does not release the GIL.
    sys.setrecursionlimit(usual + DEPTH)
    try:
        return decode(text)
    except JSON_ERRORS as again:
        raise _decode_error(again) from None
    finally:
        sys.setrecursionlimit(usual)


def read_values_again(decode: Callable[[Text], T], text: Text, error: Exception) -> T:
    """:func:`read_again` for types that contain values of any kind."""
    better = repaired(text)
    try:
        if better is not None:
            text = better
            return decode(text)
    except JSON_ERRORS as again:
        error = again
    if not isinstance(error, msgspec.ValidationError) or "out of range" not in str(error):
        raise _decode_error(error)
    # As in JavaScript, a number that is too large becomes infinity.
    kind: Any = cast("Any", decode).__self__.type
    whole = text.decode() if isinstance(text, bytes) else text
    whole = _STRING_OR_LONG_INTEGER.sub(_with_exponent, whole)
    try:
        read: T = msgspec.json.Decoder(kind, float_hook=float).decode(whole)
    except JSON_ERRORS as again:
        raise _decode_error(again) from None
    return read


def _with_exponent(token: re.Match[str]) -> str:
    return token[0] if token[0].startswith('"') else f"{token[0]}e0"


def _decode_error(error: Exception) -> msgspec.DecodeError:
    if isinstance(error, msgspec.DecodeError):
        return error
    if isinstance(error, RecursionError):
        return msgspec.DecodeError("JSON exceeds the depth that can be read")
    return msgspec.DecodeError(str(error))


def _check_utf8(text: Text) -> None:
    """Raises :class:`msgspec.DecodeError` for bytes that are not UTF-8: msgspec looks at those of decoded strings only, and not
    at those of a :class:`msgspec.Raw`."""
    if isinstance(text, bytes) and not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise _decode_error(error) from None


def checked(raw: bytes) -> bytes | None:
    """A JSON text, with unpaired surrogates replaced; None for text that is not JSON."""
    try:
        _check_utf8(raw)
        _check(raw)
    except JSON_ERRORS as error:
        return checked_again(raw, error)
    return raw


def checked_again(raw: bytes, error: Exception) -> bytes | None:
    """:func:`checked` for a text at which msgspec has failed with ``error``."""
    try:
        return bytes(read_again(_check, raw, error))
    except msgspec.DecodeError:
        return None


def reader(kind: type[T]) -> Callable[[Text], T]:
    """A reader for a type that falls back to :func:`read_again`. It raises only :class:`msgspec.DecodeError`."""
    decode = msgspec.json.Decoder(kind).decode

    def read(text: Text) -> T:
        _check_utf8(text)
        try:
            return decode(text)
        except JSON_ERRORS as error:
            return read_again(decode, text, error)

    return read


def value_reader(kind: type[T]) -> Callable[[Text], T]:
    """A reader for a type that falls back to :func:`read_values_again`. It raises only :class:`msgspec.DecodeError`."""
    decode = msgspec.json.Decoder(kind).decode

    def read(text: Text) -> T:
        try:
            return decode(text)
        except JSON_ERRORS as error:
            return read_values_again(decode, text, error)

    return read


read_any: Final[Callable[[Text], Any]] = value_reader(object)
"""Reads any value."""

read_object: Final[Callable[[Text], dict[str, Any]]] = value_reader(dict[str, Any])
"""Reads an object."""
