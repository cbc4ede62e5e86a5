"""From what a source says to an option's value, and the line that answers what can't be one.

Text comes from flags and variables, anything else from a TOML file. Numbers and booleans are
written as Go writes them (``0x10``, ``1_000``; ``1``, ``t``, ``true``).
Knows: types and bounds of single options. Does not know: other options.
"""

import re
from typing import Final, assert_never

from catenary.config.options import INT_MAX, Entry, Shorthand, Value
from catenary.errors import ConfigError

TRUE: Final = frozenset({"1", "t", "true"})
FALSE: Final = frozenset({"0", "f", "false"})

# What Go (strconv.ParseInt with base 0) and Python (int with base 0) read alike.
_NUMBER: Final = re.compile(r"[+-]?(0x[0-9a-f]+|0b[01]+|0|[1-9][0-9]*(_[0-9]+)*)", re.IGNORECASE)
# No 64-bit number is longer; Python refuses to read very long ones.
_NUMBER_LENGTH_MAX: Final = 80
_SHOWN_LENGTH_MAX: Final = 80


def from_text(row: Entry | Shorthand, text: str, source: str) -> Value:
    """Reads the value of a flag or a variable.

    Raises :class:`catenary.errors.ConfigError` naming ``source``, the value and what was expected.
    """
    value = _read(row, text)
    if value is None:
        raise wrong(row, source, text)
    return _checked(row, value, source)


def from_toml(row: Entry, given: object, source: str) -> Value:
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
        case "list" | "tags", str():
            return from_text(row, given, source)
        case "list", list() if all(isinstance(item, str) for item in given):
            value = tuple(item for item in given if item)
        case "tags", dict() if all(isinstance(item, str) for item in given.values()):
            value = tuple(f"{name}:{item}" for name, item in given.items())
        case _:
            raise wrong(row, source, given)
    return _checked(row, value, source)


def expected(row: Entry | Shorthand) -> str:
    """What an option takes, in words."""
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
        case _:
            assert_never(row.kind)


def wrong(row: Entry | Shorthand, source: str, given: object) -> ConfigError:
    """The error for a value that an option can't have; a secret's value is not shown."""
    secret = row.secret if isinstance(row, Shorthand) else row.option.secret
    shown = f"a value of type {type(given).__name__} (not shown)" if secret else _shown(given)
    return ConfigError(f"{source}: expected {expected(row)}, got {shown}")


def _read(row: Entry | Shorthand, text: str) -> Value | None:
    """The value of a text; None where it has none."""
    match row.kind:
        case "int":
            return int(text.strip(), 0) if _is_number(text.strip()) else None
        case "bool":
            word = text.strip().lower()
            return True if word in TRUE else False if word in FALSE else None
        case "str":
            return text
        case "list" | "tags":
            separator = row.option.separator if isinstance(row, Entry) else ","
            items = (item.strip() for item in text.split(separator))
            return tuple(item for item in items if item)
        case _:
            assert_never(row.kind)


def _is_number(text: str) -> bool:
    return len(text) <= _NUMBER_LENGTH_MAX and _NUMBER.fullmatch(text) is not None


def _checked(row: Entry | Shorthand, value: Value, source: str) -> Value:
    """The value, if it is one of the choices and within the bounds."""
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


def _within(row: Entry | Shorthand, value: object) -> bool:
    minimum, maximum = _bounds(row)
    return isinstance(value, int) and minimum <= value <= maximum


def _range(row: Entry | Shorthand) -> str:
    minimum, maximum = _bounds(row)
    if maximum == INT_MAX:
        return f"a whole number of at least {minimum}"
    return f"a whole number from {minimum} to {maximum}"


def _bounds(row: Entry | Shorthand) -> tuple[int, int]:
    if isinstance(row, Shorthand):
        return 0, INT_MAX
    return row.option.minimum, row.option.maximum


def _choices(row: Entry | Shorthand) -> tuple[str, ...]:
    return row.choices if isinstance(row, Entry) else ()


def _shown(given: object) -> str:
    """A value as its source writes it, cut to a readable length."""
    if isinstance(given, bool):
        return str(given).lower()
    text = repr(given)
    return text if len(text) <= _SHOWN_LENGTH_MAX else f"{text[:_SHOWN_LENGTH_MAX]}..."
