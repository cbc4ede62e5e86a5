r"""JSON as JSON.parse reads it, where msgspec's reader is stricter.

| text | msgspec | here |
|---|---|---|
| half of a surrogate pair: ``"\ud83c"`` | malformed | U+FFFD, which strict clients can read, too |
| more than some 900 levels of arrays and objects | RecursionError | up to :data:`DEPTH` where text is passed on or searched; an error where values are made |
| ``1e400``, integers of more than 4,300 digits | out of range | passed on as they are; infinite where values are made |

Everything is tried only after a reader has failed: good text costs nothing.
What is no UTF-8 is no text, and refused as before.
Source: RFC 8259, sections 6 to 9; ECMA-262, JSON.parse. Knows: text. Does not know: what it says.
"""

import re
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import msgspec

T = TypeVar("T")
Text = bytes | str

JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What a decoder of msgspec raises."""

DEPTH: Final = 10_000
"""As many levels as anycable-go reads (encoding/json of Go). Python 3.12 stops at 1,500."""

# Halves that are not beside their other half, in text whose escaped backslashes are out of the way.
_LONE_HALF = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# A string that does not end is one, too: what is in it is not looked at once more from each of its quotes.
_STRING_OR_LONG_INTEGER = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"?|(?<![0-9.])-?[0-9]{4300,}(?![0-9.eE])', re.DOTALL
)
_check: Final = msgspec.json.Decoder(msgspec.Raw).decode


def in_unicode(text: str) -> str:
    """The text with U+FFFD for each surrogate: what arguments are made of that are no UTF-8 (PEP 383)."""
    return _SURROGATE.sub("\ufffd", text)


def mended(text: Text) -> str | None:
    """The text with U+FFFD for each half of a surrogate pair that stands alone; None where none does."""
    try:
        whole = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError:
        return None
    if "\\u" not in whole or "\0" in whole:  # with a NUL, it is malformed all the same
        return None
    hidden = whole.replace("\\\\", "\0")
    changed = _LONE_HALF.sub(r"\\ufffd", hidden)
    return None if changed == hidden else changed.replace("\0", "\\\\")


def read_again(decode: Callable[[Text], T], text: Text, error: Exception) -> T:
    """What a decoder of msgspec's makes of a text at which it has failed with an ``error``.

    For types of texts, numbers and :class:`msgspec.Raw`: everything else is skipped, whose depth costs
    40 bytes of the stack for a level. Raises :class:`msgspec.DecodeError`, whatever is wrong.
    """
    better = mended(text)
    if better is not None:
        text = better
        try:
            return decode(text)
        except JSON_ERRORS as again:
            error = again
    if not isinstance(error, RecursionError):
        raise _decode_error(error)
    usual = sys.getrecursionlimit()
    # For the time of one call in C, which lets no other thread run.
    sys.setrecursionlimit(usual + DEPTH)
    try:
        return decode(text)
    except JSON_ERRORS as again:
        raise _decode_error(again) from None
    finally:
        sys.setrecursionlimit(usual)


def read_values_again(decode: Callable[[Text], T], text: Text, error: Exception) -> T:
    """The same for types with values of any kind, which are made of the text."""
    better = mended(text)
    try:
        if better is not None:
            text = better
            return decode(text)
    except JSON_ERRORS as again:
        error = again
    if not isinstance(error, msgspec.ValidationError) or "out of range" not in str(error):
        raise _decode_error(error)
    # As in JavaScript, a number that is too large is infinite.
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


def checked(raw: bytes) -> bytes | None:
    """A JSON text as it is, or mended; None for text that is no JSON."""
    try:
        _check(raw)
    except JSON_ERRORS as error:
        return checked_again(raw, error)
    return raw


def checked_again(raw: bytes, error: Exception) -> bytes | None:
    """The same for a text at which a reader has failed with an error."""
    try:
        return bytes(read_again(_check, raw, error))
    except msgspec.DecodeError:
        return None


def reader(kind: type[T]) -> Callable[[Text], T]:
    """Reads values of a type, as :func:`read_again` says. It raises :class:`msgspec.DecodeError` alone."""
    decode = msgspec.json.Decoder(kind).decode

    def read(text: Text) -> T:
        try:
            return decode(text)
        except JSON_ERRORS as error:
            return read_again(decode, text, error)

    return read


def value_reader(kind: type[T]) -> Callable[[Text], T]:
    """The same, as :func:`read_values_again` says."""
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
