"""Shortcuts for tests: options out of flags, variables and a file's text."""

from collections.abc import Mapping

import pytest

from catenary.config.load import StartRequest, load
from catenary.config.options import Options, Value
from catenary.errors import ConfigError


def request(
    *argv: str, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
) -> StartRequest:
    """Loads from these alone."""
    return load(argv, environ or {}, (files or {}).get)


def options(
    *argv: str, environ: Mapping[str, str] | None = None, file: str | None = None
) -> Options:
    """The options out of flags, variables and the text of ./anycable.toml."""
    files = {} if file is None else {"./anycable.toml": file}
    return request(*argv, environ=environ, files=files).options


def value(options: Options, place: str) -> Value:
    """The value at a place such as ``server.port``."""
    room, _, name = place.partition(".")
    found: Value = getattr(getattr(options, room), name)
    return found


def refused(*argv: str, environ: dict[str, str] | None = None, file: str | None = None) -> str:
    """The error of such sources, which is one line."""
    with pytest.raises(ConfigError) as caught:
        options(*argv, environ=environ, file=file)
    line = str(caught.value)
    assert "\n" not in line
    return line
