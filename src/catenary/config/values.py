"""Converts a source's text or TOML value into an option's value, or into an error.

Flags and variables give text, TOML files any type. Numbers and booleans have Go's syntax (``0x10``,
``1_000``; ``1``, ``t``, ``true``).
Knows: types and bounds of single options. Does not know: other options.
"""

import re
from typing import Any, Final, assert_never

import msgspec

from catenary.config.options import INT_MAX, OptionRow, Shorthand, Value
from catenary.errors import ConfigError

TRUE: Final = frozenset({"1", "t", "true"})
FALSE: Final = frozenset({"0", "f", "false"})

# Numbers that Go (strconv.ParseInt with base 0) and Python (int with base 0) read in the same way.
_NUMBER: Final = re.compile(r"[+-]?(0x[0-9a-f]+|0b[01]+|0|[1-9][0-9]*(_[0-9]+)*)", re.IGNORECASE)
# No 64-bit number is longer, and Python refuses to read very long numbers.
_NUMBER_LENGTH_MAX: Final = 80
_SHOWN_LENGTH_MAX: Final = 80


def from_text(row: OptionRow | Shorthand, text: str, source: str) -> Value:
    """Reads the value of a flag or a variable.

    Raises :class:`catenary.errors.ConfigError` that names ``source``, the value and the expected form.
    """
    value = _read(row, text)
    if value is None:
        raise wrong(row, source, text)
    return _checked(row, value, source)


def from_toml(row: OptionRow, given: object, source: str) -> Value:
    """Reads the value of a TOML key; a list may be an array, or one string as in a flag.

    Raises :class:`catenary.errors.ConfigError`, as :func:`from_text` does.
    """
    value: Value
    match row.kind, given:
        case "bool", bool():
            value = given
        case "int", int() if not isinstance(given, bool):
            value = given
        case "str", str():
            value = given
        case "list" | "tags" | "tables", str():
            return from_text(row, given, source)
        case "list", list() if all(isinstance(item, str) for item in given):
            value = tuple(item for item in given if item)
        case "tags", dict() if all(isinstance(item, str) for item in given.values()):
            value = tuple(f"{name}:{item}" for name, item in given.items())
        case "tables", list() if all(isinstance(item, dict) for item in given):
            value = _tables(given)
        case _:
            raise wrong(row, source, given)
    return _checked(row, value, source)


def expected(row: OptionRow | Shorthand) -> str:
    """The accepted values of an option, in words."""
    choices = _choices(row)
    if choices:
        words = ", ".join(choice for choice in choices if choice)
        return f"a list of {words}" if row.kind == "list" else f"one of {words}"
    match row.kind:
        case "int":
            return _range(row)
        case "bool":
            return "true or false"
        case "str":
            return "text"
        case "list":
            return "a list of texts"
        case "tags":
            return "a list of name:value"
        case "tables":
            return "a list of tables"
        case _:
            assert_never(row.kind)


def wrong(row: OptionRow | Shorthand, source: str, given: object) -> ConfigError:
    """The error for an invalid value; the value of a secret is not shown."""
    secret = row.secret if isinstance(row, Shorthand) else row.option.secret
    shown = f"a value of type {type(given).__name__} (not shown)" if secret else _shown(given)
    return ConfigError(f"{source}: expected {expected(row)}, got {shown}")


def _read(row: OptionRow | Shorthand, text: str) -> Value | None:
    """The value of a text, or None if it is invalid."""
    match row.kind:
        case "int":
            return int(text.strip(), 0) if _is_number(text.strip()) else None
        case "bool":
            word = text.strip().lower()
            return True if word in TRUE else False if word in FALSE else None
        case "str":
            return text
        case "list" | "tags":
            separator = row.option.separator if isinstance(row, OptionRow) else ","
            items = (item.strip() for item in text.split(separator))
            return tuple(item for item in items if item)
        case "tables":
            return _read_tables(text)
        case _:
            assert_never(row.kind)


def _read_tables(text: str) -> tuple[str, ...] | None:
    """The tables of a JSON array, or None if it is something else; empty text has none."""
    try:
        return _tables(msgspec.json.decode(text, type=list[dict[str, Any]])) if text else ()
    except (msgspec.DecodeError, RecursionError):
        return None


def _tables(given: list[dict[str, Any]]) -> tuple[str, ...]:
    """Each table as JSON text."""
    return tuple(msgspec.json.encode(table).decode() for table in given)


def _is_number(text: str) -> bool:
    return len(text) <= _NUMBER_LENGTH_MAX and _NUMBER.fullmatch(text) is not None


def _checked(row: OptionRow | Shorthand, value: Value, source: str) -> Value:
    """The value. Raises ConfigError if it is not one of the choices or not within the bounds."""
    choices = _choices(row)
    items = value if isinstance(value, tuple) else (value,)
    for item in items:
        if (
            (choices and item not in choices)
            or (row.kind == "int" and not _within(row, item))
            or (row.kind == "tags" and ":" not in str(item))
        ):
            raise wrong(row, source, item)
    return value


def _within(row: OptionRow | Shorthand, value: object) -> bool:
    minimum, maximum = _bounds(row)
    return isinstance(value, int) and minimum <= value <= maximum


def _range(row: OptionRow | Shorthand) -> str:
    minimum, maximum = _bounds(row)
    if maximum == INT_MAX:
        return f"a whole number of at least {minimum}"
    return f"a whole number from {minimum} to {maximum}"


def _bounds(row: OptionRow | Shorthand) -> tuple[int, int]:
    if isinstance(row, Shorthand):
        return 0, INT_MAX
    return row.option.minimum, row.option.maximum


def _choices(row: OptionRow | Shorthand) -> tuple[str, ...]:
    return row.choices if isinstance(row, OptionRow) else ()


def _shown(given: object) -> str:
    """A value as its source writes it, truncated."""
    if isinstance(given, bool):
        return str(given).lower()
    text = repr(given)
    return text if len(text) <= _SHOWN_LENGTH_MAX else f"{text[:_SHOWN_LENGTH_MAX]}..."
