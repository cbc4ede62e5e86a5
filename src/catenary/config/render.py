"""The table of options as text: ``--help``, ``--help-all``, ``--print-config``, and docs/options.md.

Knows: how options are shown. Does not know: how they are read. ``load`` reads the output of :func:`toml` to
the same values.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

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
from catenary.errors import ConfigError

WIDTH: Final = 100

SCREEN: Final = (80, 24)
"""Columns and lines of a terminal, which ``--help`` fits."""

_GENERAL: Final = (
    (
        "--config-path TEXT",
        "Read this TOML file (default: ./anycable.toml or /etc/anycable/anycable.toml)",
    ),
    ("--ignore-config-path", "Read no TOML file"),
    ("--print-config", "Print the configuration as TOML and exit"),
    ("-h, --help", "Print the most used options and exit"),
    ("--help-all", "Print this help and exit"),
    ("-v, --version", "Print the version and exit"),
)
_LEFT_OUT: Final = ("log.debug", "node.node_id")
"""Printed as a comment if they are not set, as in anycable-go, so that programs read whether they are."""

_NOT_BUILT: Final = "(not in this version)"
_HELP_COLUMN: Final = 34

_USAGE: Final = """\
Usage: catenary [module:cable] [options]    a server, with an application in it
       catenary rpc module:cable [options]  an application, for other servers
       catenary COMMAND [arguments]         a tool; see catenary COMMAND --help
"""
_MORE: Final = "Options (all: catenary --help-all; their values: --print-config)"

_INTRODUCTION: Final = f"""\
{_USAGE}
Serves Action Cable clients for your application. Options may also be set by variables and in a
TOML file; flags override variables, variables override the file.
"""


def brief_help(commands: Sequence[tuple[str, str]] = ()) -> str:
    """The output of ``--help``: the given commands in two columns, and the most used options. Fits :data:`SCREEN`."""
    cells = [f"  {name:12}{meaning}" for name, meaning in commands]
    half = (len(cells) + 1) // 2
    left, right = cells[:half], [*cells[half:], ""]
    lines = [f"{one:38}{other}".rstrip() for one, other in zip(left, right, strict=False)]
    options = [f"  {_call(row):26}{row.option.brief}" for row in TABLE if row.option.brief]
    return "\n".join((_USAGE.rstrip(), *lines, _MORE, *options, ""))


def help_text(commands: Iterable[tuple[str, str]] = ()) -> str:
    """The output of ``--help-all``: the given commands, and every option that is not hidden, by group."""
    parts = [_INTRODUCTION, _section("OPTIONS", _GENERAL)]
    lines = list(commands)
    if lines:
        parts.insert(1, _section("COMMANDS (see catenary COMMAND --help)", lines))
    for group in _groups():
        lines = [(_call(row), _meaning(row)) for row in _rows(group) if not _is_hidden(row)]
        if lines:
            parts.append(_section(group, lines))
    return "\n".join(parts)


def toml(options: Options) -> str:
    """The output of ``--print-config``: an ``anycable.toml`` that results in the same options.

    It has every option under anycable-go's key; options that this version lacks are comments.
    """
    parts = ["# Configuration of a cable server\n"]
    # Top-level keys come before any section, else they would belong to it.
    for section in sorted(dict.fromkeys(map(_section_of, TABLE)), key=bool):
        parts.append(f"[{section}]\n" if section else "")
        parts.extend(
            _setting(entry, entry.value_in(options))
            for entry in TABLE
            if _section_of(entry) == section
        )
    return "\n".join(part for part in parts if part)


def markdown() -> str:
    """Every option as Markdown tables, one per group; options that are not built are marked."""
    parts: list[str] = []
    for group in _groups():
        parts.append(f"### {title(group)}\n")
        parts.append(
            "| Option | Variable | TOML key | Default | Reload | Meaning |\n|---|---|---|---|---|---|"
        )
        parts.extend(_table_row(row) for row in _rows(group))
        parts.append("")
    return "\n".join(parts)


def _section(title: str, lines: Iterable[tuple[str, str]]) -> str:
    return f"{title}:\n" + "".join(_help_line(call, text) for call, text in lines)


def _help_line(call: str, text: str) -> str:
    """One option: the flag, and its meaning beside it, or below a long flag."""
    margin = " " * _HELP_COLUMN
    start = f"  {call}  "
    first = (
        start.ljust(_HELP_COLUMN) if len(start) <= _HELP_COLUMN else f"{start.rstrip()}\n{margin}"
    )
    lines = textwrap.wrap(text, WIDTH - _HELP_COLUMN, break_on_hyphens=False)
    return first + f"\n{margin}".join(lines) + "\n"


def _call(row: OptionRow | Shorthand) -> str:
    flag = row.flag if isinstance(row, Shorthand) else row.option.flag
    return f"--{flag}" if row.kind == "bool" else f"--{flag} {_METAVARIABLES[row.kind]}"


def _meaning(row: OptionRow | Shorthand) -> str:
    """The help of an option with its choices, default and variables."""
    text = _prose(row)
    if isinstance(row, OptionRow):
        default = _plain(row, row.default)
        text += f" (default: {default})" if default else ""
    return f"{text} [{', '.join(f'${name}' for name in _variables(row))}]"


def _prose(row: OptionRow | Shorthand) -> str:
    deprecated = row.deprecated if isinstance(row, Shorthand) else row.option.deprecated
    text = row.help if isinstance(row, Shorthand) else row.option.help
    choices = [choice for choice in row.choices if choice] if isinstance(row, OptionRow) else []
    return "".join(
        (
            f"{_NOT_BUILT} " if isinstance(row, Shorthand) and not row.built else "",
            "" if deprecated is None else f"[Deprecated: {deprecated}] ",
            text,
            f"; one of {', '.join(choices)}" if choices and row.kind != "list" else "",
            f"; any of {', '.join(choices)}" if choices and row.kind == "list" else "",
        )
    )


def _table_row(row: OptionRow | Shorthand) -> str:
    flag = row.flag if isinstance(row, Shorthand) else row.option.flag
    default = "" if isinstance(row, Shorthand) else _plain(row, row.default)
    cells = (
        _code((f"--{flag}",) if flag else ()),
        _code(_variables(row)),
        _code((row.option.toml,) if isinstance(row, OptionRow) else ()),
        _code((default,) if default else ()),
        "yes" if _is_reloadable(row) else "",
        _prose(row).replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |"


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _plain(entry: OptionRow, value: Value) -> str:
    """A value as it is written for a flag."""
    if isinstance(value, tuple):
        return entry.option.separator.join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _setting(entry: OptionRow, value: Value) -> str:
    """The comment and the lines of one option in TOML."""
    _, key = _split_key(entry)
    text = textwrap.fill(
        _prose(entry), WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    if not value and entry.place == NO_SECRET[0]:
        value = NO_SECRET[1]
    mark = "# " if entry.place in _LEFT_OUT and value == entry.default else ""
    return f"{text}\n{mark}{key} = {_toml_value(entry, value)}\n"


def _toml_value(entry: OptionRow, value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if entry.option.joined:
        return _quoted(entry.option.separator.join(value))
    if entry.kind == "tags":
        pairs = (item.partition(":") for item in value)
        return "{" + ", ".join(f"{_quoted(name)} = {_quoted(tag)}" for name, _, tag in pairs) + "}"
    if entry.kind == "tables":
        return _toml_tables([msgspec.json.decode(item) for item in value])
    return "[" + ", ".join(map(_quoted, value)) + "]"


def _toml_tables(value: object) -> str:
    """A value of a table, which was read from TOML or JSON, as TOML in one line."""
    if isinstance(value, dict):
        pairs = [f"{_quoted(name)} = {_toml_tables(each)}" for name, each in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_tables, value))}]"
    return _quoted(value) if isinstance(value, str) else msgspec.json.encode(value).decode()


def _quoted(text: str) -> str:
    """A TOML basic string. It has JSON's escapes, but U+007F must be escaped, too."""
    try:
        return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
    except UnicodeEncodeError:
        raise ConfigError("print-config: expected values in UTF-8, got other bytes") from None


def _section_of(entry: OptionRow) -> str:
    return _split_key(entry)[0]


def _split_key(entry: OptionRow) -> tuple[str, str]:
    """The section and the rest of a key: ``server.ssl.key_path`` → ``server``, ``ssl.key_path``."""
    section, dot, key = entry.option.toml.partition(".")
    return (section, key) if dot else ("", section)


def _groups() -> list[str]:
    return list(dict.fromkeys(entry.option.group for entry in TABLE))


def _rows(group: str) -> list[OptionRow | Shorthand]:
    return [
        *(entry for entry in TABLE if entry.option.group == group),
        *(row for row in SHORTHANDS if row.group == group),
    ]


def _is_hidden(row: OptionRow | Shorthand) -> bool:
    return row.hidden if isinstance(row, Shorthand) else row.option.hidden


def _is_reloadable(row: OptionRow | Shorthand) -> bool:
    if isinstance(row, OptionRow):
        return row.option.reloadable
    return bool(row.sets) and all(_BY_PLACE[place].option.reloadable for place, _ in row.sets)


def _variables(row: OptionRow | Shorthand) -> tuple[str, ...]:
    return (variable_of(row.flag),) if isinstance(row, Shorthand) else row.option.variables


def title(group: str) -> str:
    """The heading of a group of options."""
    return _TITLES.get(group, group.capitalize())


_BY_PLACE: Final = {row.place: row for row in TABLE}
_METAVARIABLES: Final = {
    "int": "N",
    "str": "TEXT",
    "list": "LIST",
    "tags": "LIST",
    "tables": "JSON",
}
_TITLES: Final = {
    name.upper(): name
    for name in (
        *("SSL", "WebSockets", "RPC", "Redis", "Redis X broadcast", "HTTP broadcast", "JWT", "API"),
        *("NATS", "Embedded NATS", "StatsD", "GraphQL", "OCPP"),
    )
}
