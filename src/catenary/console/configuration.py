"""The configuration of this server for people: each option with its value, and where the value comes from.

Knows: the table of options. Does not know: requests. Secrets are never shown: only whether they are set.
"""

from collections.abc import Mapping

import msgspec

from catenary.config.masking import masked
from catenary.config.options import TABLE, Options
from catenary.config.render import title


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
        group = groups.setdefault(row.option.group, _Group(title(row.option.group), []))
        value = row.value_in(options)
        is_default = value == row.default
        group.options.append(
            _Shown(
                name=row.option.flag or row.option.toml,
                toml=row.option.toml,
                variables=row.option.variables,
                help=row.option.help,
                value=masked(row, value),
                default=masked(row, row.default),
                source=sources.get(row.place, "default" if is_default else "other options"),
                is_secret=row.option.secret,
            )
        )
    return msgspec.json.encode(_Configuration(list(groups.values())))
