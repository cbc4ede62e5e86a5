"""The table of options as text: ``-h``, ``--print-config``, and the table of the docs.

Knows: how options are shown. Does not know: how they are read, but what :func:`toml` writes,
``load`` reads to the same values.
"""

import textwrap
from collections.abc import Iterable
from typing import Final

import msgspec

from catenary.config.options import SHORTHANDS, TABLE, Entry, Options, Shorthand, Value, variable_of
from catenary.errors import ConfigError

WIDTH: Final = 100

_GENERAL: Final = (
    (
        "--config-path TEXT",
        "Read this TOML file (else ./anycable.toml, /etc/anycable/anycable.toml)",
    ),
    ("--ignore-config-path", "Read no file"),
    ("--print-config", "Print the configuration as TOML and exit"),
    ("-h, --help", "Print this help and exit"),
    ("-v, --version", "Print the version and exit"),
)
_NOT_BUILT: Final = "(not in this version)"
_HELP_COLUMN: Final = 34

_INTRODUCTION: Final = """\
Usage: catenary [module:cable] [options]
       catenary rpc module:cable [options]
       catenary COMMAND [arguments]

Serves Action Cable clients in front of your application. An option may also be given as a
variable or in a TOML file; the command line wins, then the variables, then the file.
"""


def help_text(commands: Iterable[tuple[str, str]] = ()) -> str:
    """What ``-h`` prints: the commands given, and every option that is not hidden, by group."""
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
    """What ``--print-config`` prints: an ``anycable.toml`` that gives the same options again.

    Every option is there under the key of anycable-go; those that this version lacks are comments.
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
    """Every option as Markdown tables, one for each group; those not built are marked."""
    parts: list[str] = []
    for group in _groups():
        parts.append(f"### {_title(group)}\n")
        parts.append("| Option | Variable | TOML key | Default | Meaning |\n|---|---|---|---|---|")
        parts.extend(_table_row(row) for row in _rows(group))
        parts.append("")
    return "\n".join(parts)


def _section(title: str, lines: Iterable[tuple[str, str]]) -> str:
    return f"{title}:\n" + "".join(_help_line(call, text) for call, text in lines)


def _help_line(call: str, text: str) -> str:
    """One option: what to write, and beside it (below it, where that is long) what it means."""
    margin = " " * _HELP_COLUMN
    start = f"  {call}  "
    first = (
        start.ljust(_HELP_COLUMN) if len(start) <= _HELP_COLUMN else f"{start.rstrip()}\n{margin}"
    )
    lines = textwrap.wrap(text, WIDTH - _HELP_COLUMN, break_on_hyphens=False)
    return first + f"\n{margin}".join(lines) + "\n"


def _call(row: Entry | Shorthand) -> str:
    flag = row.flag if isinstance(row, Shorthand) else row.option.flag
    return f"--{flag}" if row.kind == "bool" else f"--{flag} {_METAVARIABLES[row.kind]}"


def _meaning(row: Entry | Shorthand) -> str:
    """The help of an option with its choices, default and variables."""
    text = _prose(row)
    if isinstance(row, Entry):
        default = _plain(row, row.default)
        text += f" (default: {default})" if default else ""
    return f"{text} [{', '.join(f'${name}' for name in _variables(row))}]"


def _prose(row: Entry | Shorthand) -> str:
    deprecated = row.deprecated if isinstance(row, Shorthand) else row.option.deprecated
    text = row.help if isinstance(row, Shorthand) else row.option.help
    choices = [choice for choice in row.choices if choice] if isinstance(row, Entry) else []
    return "".join(
        (
            "" if _is_built(row) else f"{_NOT_BUILT} ",
            "" if deprecated is None else f"[Deprecated: {deprecated}] ",
            text,
            f"; one of {', '.join(choices)}" if choices and row.kind != "list" else "",
            f"; any of {', '.join(choices)}" if choices and row.kind == "list" else "",
            f" ({', '.join(map(str, _later(row)))}: not in this version)" if _later(row) else "",
        )
    )


def _table_row(row: Entry | Shorthand) -> str:
    flag = row.flag if isinstance(row, Shorthand) else row.option.flag
    default = "" if isinstance(row, Shorthand) else _plain(row, row.default)
    cells = (
        _code((f"--{flag}",) if flag else ()),
        _code(_variables(row)),
        _code((row.option.toml,) if isinstance(row, Entry) else ()),
        _code((default,) if default else ()),
        _prose(row).replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |"


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _plain(entry: Entry, value: Value) -> str:
    """A value as a flag takes it."""
    if isinstance(value, tuple):
        return entry.option.separator.join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _setting(entry: Entry, value: Value) -> str:
    """The comment and the lines of one option in TOML."""
    _, key = _split_key(entry)
    text = textwrap.fill(
        _prose(entry), WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    mark = "# " if not entry.option.built and value == entry.default else ""
    return f"{text}\n{mark}{key} = {_toml_value(entry, value)}\n"


def _toml_value(entry: Entry, value: Value) -> str:
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
    return "[" + ", ".join(map(_quoted, value)) + "]"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but TOML has no plain U+007F."""
    try:
        return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
    except UnicodeEncodeError:
        raise ConfigError("print-config: expected values in UTF-8, which TOML is") from None


def _section_of(entry: Entry) -> str:
    return _split_key(entry)[0]


def _split_key(entry: Entry) -> tuple[str, str]:
    """The section and the rest of a key: ``server.ssl.key_path`` → ``server``, ``ssl.key_path``."""
    section, dot, key = entry.option.toml.partition(".")
    return (section, key) if dot else ("", section)


def _groups() -> list[str]:
    return list(dict.fromkeys(entry.option.group for entry in TABLE))


def _rows(group: str) -> list[Entry | Shorthand]:
    return [
        *(entry for entry in TABLE if entry.option.group == group),
        *(row for row in SHORTHANDS if row.group == group),
    ]


def _is_hidden(row: Entry | Shorthand) -> bool:
    return row.hidden if isinstance(row, Shorthand) else row.option.hidden


def _is_built(row: Entry | Shorthand) -> bool:
    return row.built if isinstance(row, Shorthand) else row.option.built


def _later(row: Entry | Shorthand) -> tuple[str | int, ...]:
    return row.option.later if isinstance(row, Entry) and row.option.built else ()


def _variables(row: Entry | Shorthand) -> tuple[str, ...]:
    return (variable_of(row.flag),) if isinstance(row, Shorthand) else row.option.variables


def _title(group: str) -> str:
    return _TITLES.get(group, group.capitalize())


_METAVARIABLES: Final = {"int": "N", "str": "TEXT", "list": "LIST", "tags": "LIST"}
_TITLES: Final = {
    name.upper(): name
    for name in (
        *("SSL", "WebSockets", "RPC", "Redis", "Redis X broadcast", "HTTP broadcast", "JWT", "API"),
        *("NATS", "Embedded NATS", "StatsD", "GraphQL", "OCPP"),
    )
}
