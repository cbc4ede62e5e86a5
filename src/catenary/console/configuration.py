"""The configuration of this server for people: each option with its value, and where the value comes from.

Knows: the table of options. Does not know: requests. Secrets are never shown: only whether they are set.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from catenary.config.options import TABLE, OptionRow, Options, Value
from catenary.config.render import title

_ADDRESSES: Final = frozenset({"redis.url", "nats.servers"})
"""Secret options that are shown without their passwords: an address is the first thing that one looks for."""
_USER: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
_QUERY: Final = re.compile(r"\?.*", re.DOTALL)
_MASK: Final = "•••"


class _Shown(msgspec.Struct, gc=False):
    name: str
    toml: str
    variables: tuple[str, ...]
    help: str
    value: str
    default: str
    source: str
    is_secret: bool


class _Group(msgspec.Struct, gc=False):
    title: str
    options: list[_Shown]


class _Configuration(msgspec.Struct, gc=False):
    groups: list[_Group]


def configuration(options: Options, sources: Mapping[str, str]) -> bytes:
    """All options as JSON: ``{"groups": [{"title", "options": [{"name", "toml", "variables", "help", "value", "default",
    "source", "is_secret"}]}]}``.

    ``options`` are effective ones, ``sources`` are those of :class:`catenary.config.load.StartRequest`. The source of a
    value without one is ``default``, or ``other options`` if it differs from the default.
    """
    groups: dict[str, _Group] = {}
    for row in TABLE:
        if not row.option.built:
            continue
        group = groups.setdefault(row.option.group, _Group(title(row.option.group), []))
        value = row.value_in(options)
        is_default = value == row.default
        group.options.append(
            _Shown(
                name=row.option.flag or row.option.toml,
                toml=row.option.toml,
                variables=row.option.variables,
                help=row.option.help,
                value=_shown(row, value),
                default=_shown(row, row.default),
                source=sources.get(row.place, "default" if is_default else "other options"),
                is_secret=row.option.secret,
            )
        )
    return msgspec.json.encode(_Configuration(list(groups.values())))


def _shown(row: OptionRow, value: Value) -> str:
    if isinstance(value, bool | int):
        return str(value).lower()
    items = value if isinstance(value, tuple) else (value,)
    if row.option.secret and row.place not in _ADDRESSES:
        items = (_MASK,) if any(items) else ()
    return ", ".join(map(_without_secrets, items))


def _without_secrets(text: str) -> str:
    """A value without the user, the password and the query, if it is an address."""
    if "://" in text or "@" in text:
        text = _QUERY.sub(f"?{_MASK}", text)
    return _USER.sub(rf"\1{_MASK}@", text)
