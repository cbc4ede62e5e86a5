"""Parses values of arguments: ``name=value``, JSON, durations, counts, headers, tokens; and the arguments of every client.

Knows: text, argparse. Does not know: which tool uses a value.
"""

import argparse
import math
import re
from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError

from catenary.errors import ConfigError
from catenary.messages.lenient_json import read_any, read_object, without_surrogates
from catenary.terminal.arguments import more_arguments

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def fields(words: Iterable[str]) -> dict[str, Any]:
    """``id=42 name=Ann`` or ``{"id": 42}``: a value is read as JSON if possible, else as text.

    Raises :class:`catenary.errors.ConfigError`.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if word.startswith("{"):
            found |= _object(word)
        elif equals and name:
            found[name] = value(text)
        else:
            raise ConfigError(f"expected name=value or a JSON object, got {word!r}")
    return found


def value(text: str) -> Any:
    """The JSON value of a text, or the text."""
    try:
        return read_any(without_surrogates(text))
    except DecodeError:
        return without_surrogates(text)


def seconds(text: str) -> float:
    """``90``, ``90s``, ``5m``, ``2h``, ``1d``: in seconds. Raises argparse's error."""
    unit = _UNITS_S.get(text[-1:])
    try:
        number = float(text if unit is None else text[:-1]) * (unit or 1)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a time such as 90, 5m or 2h, got {text!r}")
    return number


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def add_client_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--jwt`` and ``--header``, with which a client authenticates."""
    parser.add_argument("--jwt", type=token, metavar="TOKEN", help="authenticate with this token")
    more_arguments(parser).add_argument(
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="NAME:VALUE",
        help="send this header",
    )


def header(text: str) -> tuple[str, str]:
    """``Name: value``, for argparse."""
    name, colon, rest = text.partition(":")
    if not colon or not name.strip() or not text.isprintable() or not text.isascii():
        raise argparse.ArgumentTypeError("expected a header such as 'Cookie: a=b'")
    return name.strip(), rest.strip()


def token(text: str) -> str:
    """A token that fits a header, for argparse; an error does not show it."""
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", text):
        raise argparse.ArgumentTypeError("expected a token, got something else")
    return text


def _object(text: str) -> dict[str, Any]:
    try:
        return read_object(without_surrogates(text))
    except DecodeError as error:
        raise ConfigError(f"expected a JSON object, got {text!r}: {error}") from error
