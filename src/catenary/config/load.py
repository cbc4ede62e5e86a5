"""Combines command line, environment and ``anycable.toml`` into one :class:`StartRequest`, without any I/O.

Usage::

    request = load(sys.argv[1:], os.environ, read)
    match request.action: ...   # "serve", "help", "help-all", "version", "print-config"

``read(path)`` returns the text of a file, or None if it does not exist; for a file that can't be read it raises
:class:`catenary.errors.ConfigError`. The options are returned as given;
:func:`catenary.config.effective.effective` applies what they imply.

Precedence: defaults < presets < file < environment < command line. Follows anycable-go 1.6.16, except that a
word that is not an option is an error (there it silently ends the options), and so is an unknown TOML key.
Unknown ``ANYCABLE_*`` variables are ignored: applications have their own.
"""

import tomllib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from catenary.config import presets
from catenary.config.checks import (
    check_together,
    refuse_unbuilt,
    trusting_everybody,
)
from catenary.config.options import (
    NO_SECRET,
    SHORTHANDS,
    TABLE,
    OptionRow,
    Options,
    Shorthand,
    Value,
    variable_of,
)
from catenary.config.suggestions import did_you_mean
from catenary.config.values import FALSE, TRUE, from_text, from_toml
from catenary.config.without_effect import without_effect
from catenary.errors import ConfigError, UnexpectedWord

CONFIG_PATHS: Final = ("./anycable.toml", "/etc/anycable/anycable.toml")

Action = Literal["serve", "help", "help-all", "version", "print-config"]
Row = OptionRow | Shorthand


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The action and the options that the sources ask for.

    ``config_path`` is the file that was read, or None; ``config_text`` its text, which may contain secrets. ``presets`` are the applied ones. ``sources`` maps the place of
    each option that is not at its default to the source of its value: ``--port``, ``PORT``, a key of a file, a preset.
    ``warnings`` are lines for the log. With "help", "help-all" and "version" the options are the defaults.
    """

    action: Action
    options: Options = Options()
    config_path: str | None = None
    config_text: str = ""
    presets: tuple[str, ...] = ()
    sources: Mapping[str, str] = {}
    warnings: tuple[str, ...] = ()


class Combined(msgspec.Struct, frozen=True):
    """The result of :func:`combine`; the fields are those of :class:`StartRequest`."""

    options: Options
    presets: tuple[str, ...]
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


class Given(msgspec.Struct, frozen=True):
    """A value with the name of its source for errors: ``--port``, ``PORT``, a key of a file."""

    row: Row
    value: Value
    source: str


class CommandLine(msgspec.Struct):
    """The parsed flags."""

    given: dict[str, Given]
    help: bool = False
    help_all: bool = False
    version: bool = False
    print_config: bool = False
    ignore_config_path: bool = False
    config_path: str | None = None


def load(
    argv: Sequence[str],
    environ: Mapping[str, str],
    read: Callable[[str], str | None],
    *,
    with_cable: bool = False,
) -> StartRequest:
    """Reads all sources. ``argv`` excludes the program's name and, ``with_cable``, the cable's.

    Raises :class:`catenary.errors.ConfigError` with one line that names the option as it was given.
    """
    line = parse_command_line(argv)
    if line.help_all or line.help:
        return StartRequest(action="help-all" if line.help_all else "help")
    if line.version:
        return StartRequest(action="version")
    path, text = _find_file(line, read)
    given = {
        **({} if path is None else parse_file(text, path)),
        **parse_environment(environ),
        **line.given,
    }
    found = combine(given, environ, with_cable=with_cable)
    return StartRequest(
        action="print-config" if line.print_config else "serve",
        options=found.options,
        config_path=path,
        config_text=text,
        presets=found.presets,
        sources=found.sources,
        warnings=found.warnings,
    )


def refuse_vanished(first: StartRequest, again: StartRequest) -> None:
    """Raises :class:`catenary.errors.ConfigError` if the file that was read ``first`` is gone or empty when it is read ``again``.

    Without it, every option would have its default, such as no limit and all origins. An editor that truncates the file
    before it writes it, a volume that is not mounted, and a pipe that was read before cause this.
    """
    path = first.config_path
    if path is None:
        return
    if again.config_path != path:
        found = "none" if again.config_path is None else again.config_path
        raise ConfigError(f"{path}: expected the file that was read at the start, got {found}")
    if first.config_text.strip() and not again.config_text.strip():
        raise ConfigError(f"{path}: expected options, got an empty file")


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Reads flags: one or two dashes, ``_`` or ``-``, the value after ``=`` or as the next word.

    A boolean needs no value, and takes the next word only if it is a boolean. The last of repeated flags
    wins. Raises :class:`catenary.errors.ConfigError`.
    """
    line = CommandLine({})
    words = deque(argv)
    before: Row | None = None
    while words:
        word = words.popleft()
        if not word.startswith("-") or not word.strip("-"):
            if before is not None and _is_secret(before):
                raise UnexpectedWord("", "one (not shown)")
            raise UnexpectedWord(word, repr(word))
        name, equals, text = word.lstrip("-").partition("=")
        flag = _plain(name)
        if flag not in _SPELLINGS:
            raise ConfigError(
                f"unknown option --{_printable(name)}{did_you_mean(flag, _SPELLINGS)}"
            )
        before = _FLAGS.get(flag)
        if not equals:
            switch = flag in _SWITCHES or (before is not None and before.kind == "bool")
            text = _switch_value(words) if switch else _following(words, name)
        _take(line, flag, text, f"--{name}")
    return line


def parse_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """Reads the variables of options; if an option has several, the first one that is set counts.

    An empty variable means false, an empty list or empty text; if that has no meaning, the variable counts as
    unset. For a number it means the default, as in anycable-go, even if another variable is set.
    Raises :class:`catenary.errors.ConfigError`.
    """
    given: dict[str, Given] = {}
    for row in _ROWS:
        name = next((name for name in _variables(row) if _is_set(row, name, environ)), None)
        if name is None:
            continue
        text = environ[name]
        if not text and row.kind == "bool":
            text = "false"
        elif not text and (row.kind == "int" or _choices_without_empty(row)):
            continue
        _put(given, row, from_text(row, text, name), name)
    return given


def given_by_name(keywords: Mapping[str, object]) -> dict[str, Given]:
    """Reads keyword arguments named like flags. Raises :class:`catenary.errors.ConfigError`."""
    given: dict[str, Given] = {}
    for name, value in keywords.items():
        row = _FLAGS.get(name)
        if row is None:
            raise ConfigError(
                f"unknown option {_printable(name)}{did_you_mean(name, _FLAGS.keys())}"
            )
        if isinstance(row, Shorthand):
            _put(given, row, from_text(row, str(value), name), name)
        else:
            # from_toml reads lists: TOML has no tuples.
            items = [*cast("tuple[object, ...]", value)] if isinstance(value, tuple) else value
            _put(given, row, from_toml(row, items, name), name)
    return given


def parse_file(text: str, path: str) -> dict[str, Given]:
    """Reads the text of an ``anycable.toml``. Raises :class:`catenary.errors.ConfigError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML, got: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path}: expected TOML, got values that are nested too deeply") from None
    given: dict[str, Given] = {}
    for key, value in _flatten(document, ""):
        entry = _KEYS.get(key)
        if entry is None:
            raise ConfigError(
                f"{path}: unknown key {_printable(key)}{did_you_mean(key, _KEYS.keys())}"
            )
        source = f"{path}: {key}"
        _put(given, entry, from_toml(entry, value, source), source)
    return given


def combine(
    given: Mapping[str, Given], environ: Mapping[str, str], *, with_cable: bool = False
) -> Combined:
    """Builds the options from the given values, applies presets and checks everything. Raises
    :class:`catenary.errors.ConfigError`."""
    values, sources, warnings = _unfold(given)
    options = _build(values)
    named = options.deployment.presets or presets.detect(environ)
    applied = tuple(name for name in named if name != "none")
    changed = presets.values(applied, values, environ)
    in_public_mode = presets.in_public_mode(values)
    beside_a_cable = presets.beside_a_cable(values) if with_cable else {}
    options = _build({**in_public_mode, **beside_a_cable, **changed, **values})
    check_together(options)
    origins = {
        **dict.fromkeys(in_public_mode, "public mode"),
        **dict.fromkeys(beside_a_cable, "an application in this process"),
        **dict.fromkeys(changed, f"presets: {', '.join(applied)}"),
        **sources,
    }
    warnings += without_effect(options, sources)
    warnings += trusting_everybody(options)
    return Combined(options, applied, origins, tuple(warnings))


def _find_file(line: CommandLine, read: Callable[[str], str | None]) -> tuple[str | None, str]:
    """The path and the text of the configuration file, or (None, "")."""
    if line.ignore_config_path:
        return None, ""
    if line.config_path:
        text = read(line.config_path)
        if text is None:
            raise ConfigError(f"--config-path: expected a file, got {line.config_path!r}")
        return line.config_path, text
    for path in CONFIG_PATHS:
        text = read(path)
        if text is not None:
            return path, text
    return None, ""


def _following(words: deque[str], name: str) -> str:
    if not words:
        raise ConfigError(f"--{name}: expected a value, got the end of the command line")
    return words.popleft()


def _switch_value(words: deque[str]) -> str:
    """The next word if it is a boolean, else "true": the flag alone enables its option."""
    return words.popleft() if words and words[0].lower() in TRUE | FALSE else "true"


def _take(line: CommandLine, flag: str, text: str, source: str) -> None:
    """Stores one flag."""
    row = _FLAGS.get(flag)
    if row is not None:
        _put(line.given, row, from_text(row, text, source), source)
    elif flag == "config_path":
        line.config_path = text
    elif text.lower() in TRUE | FALSE:
        setattr(line, _SWITCHES[flag], text.lower() in TRUE)
    else:
        raise ConfigError(f"{source}: expected true or false, got {text!r}")


def _put(given: dict[str, Given], row: Row, value: Value, source: str) -> None:
    """Stores a value, unless it is an empty one that means the default."""
    if not (isinstance(row, OptionRow) and row.option.required and value == ()):
        given[row.place] = Given(row, value, source)


def _unfold(
    given: Mapping[str, Given],
) -> tuple[dict[str, Value], dict[str, str], list[str]]:
    """Values and sources by place, with shorthands expanded, and warnings for deprecated options."""
    values = {one.row.place: one.value for one in given.values() if isinstance(one.row, OptionRow)}
    sources = {place: given[place].source for place in values}
    warnings = [
        f"{one.source} is deprecated, use {_deprecated(one.row)}"
        for one in given.values()
        if one.value and _deprecated(one.row) is not None
    ]
    for one in given.values():
        if isinstance(one.row, Shorthand):
            refuse_unbuilt(one.row, one.value, one.source)
            for place, value in one.row.sets if one.value else ():
                if one.row.wins or place not in values:
                    values[place] = one.value if value is None else value
                    sources[place] = one.source
    return values, sources, warnings


def _build(values: Mapping[str, Value]) -> Options:
    rooms: dict[str, dict[str, Any]] = {}
    for place, value in values.items():
        room, _, name = place.partition(".")
        rooms.setdefault(room, {})[name] = "" if (place, value) == NO_SECRET else value
    groups = {room: Options.__annotations__[room](**fields) for room, fields in rooms.items()}
    return Options(**groups)


def _flatten(table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    """Dotted keys and their values; a table that is the value of an option (tags) is not flattened."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in _KEYS:
            yield from _flatten(value, f"{key}.")
        else:
            yield key, value


def _printable(name: str) -> str:
    """A foreign name, escaped so that it stays on one line."""
    return name if name.isprintable() else repr(name)


def _is_secret(row: Row) -> bool:
    return row.secret if isinstance(row, Shorthand) else row.option.secret


def _deprecated(row: Row) -> str | None:
    return row.deprecated if isinstance(row, Shorthand) else row.option.deprecated


def _is_set(row: Row, name: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable counts as set. Container tools set missing variables to empty text."""
    if not isinstance(row, OptionRow):
        return name in environ
    option = row.option
    means_nothing = option.filled or option.required
    return bool(environ.get(name)) if means_nothing else name in environ


def _choices_without_empty(row: Row) -> bool:
    return isinstance(row, OptionRow) and bool(row.choices) and "" not in row.choices


def _flags(row: Row) -> tuple[str, ...]:
    if isinstance(row, Shorthand):
        return (row.flag,)
    return () if row.option.flag is None else (row.option.flag, *row.option.flag_aliases)


def _variables(row: Row) -> tuple[str, ...]:
    return row.option.variables if isinstance(row, OptionRow) else (variable_of(row.flag),)


def _plain(flag: str) -> str:
    """The canonical form of a flag, which may be written with ``_`` or ``-``."""
    return flag.replace("-", "_")


_ROWS: Final[tuple[Row, ...]] = (*TABLE, *SHORTHANDS)
_FLAGS: Final = {_plain(flag): row for row in _ROWS for flag in _flags(row)}
_KEYS: Final = {
    key: entry for entry in TABLE for key in (entry.option.toml, *entry.option.toml_aliases)
}
_SWITCHES: Final = {
    "help": "help",
    "h": "help",
    "help_all": "help_all",
    "version": "version",
    "v": "version",
    "print_config": "print_config",
    "ignore_config_path": "ignore_config_path",
}
_SPELLINGS: Final = {
    **{_plain(flag): f"--{flag}" for row in _ROWS for flag in _flags(row)},
    **{flag: f"--{flag.replace('_', '-')}" for flag in (*_SWITCHES, "config_path")},
}
