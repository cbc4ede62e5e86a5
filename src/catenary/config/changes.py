"""The difference between the options of a running server and those that it reads again.

Knows: options. Does not know: how a change is applied.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from catenary.config.effective import keys
from catenary.config.masking import masked
from catenary.config.options import TABLE, OptionRow, Options
from catenary.config.pusher_apps import pusher_apps

_SHOWN_CHARS: Final = 200
"""Longer values are cut in the log."""

_CERTIFICATE: Final = frozenset({"server.ssl_cert", "server.ssl_key"})


class Changes(msgspec.Struct, frozen=True):
    """Options whose values differ: those that a running server ``applied``, and those that need a ``restart``."""

    applied: tuple[OptionRow, ...]
    restart: tuple[OptionRow, ...]

    @property
    def places(self) -> frozenset[str]:
        """The places of the options that are applied."""
        return frozenset(row.place for row in self.applied)


def changes(running: Options, read: Options) -> Changes:
    """Compares effective options.

    A secret or a certificate can be replaced at runtime, but not added or removed: this decides which endpoints exist and
    whether they require a key or TLS, and a running server must not open an endpoint that was protected. So can trusted
    proxies: without them, nothing looks for the headers of proxies.
    """
    changed = [row for row in TABLE if row.value_in(running) != row.value_in(read)]
    applied = [row for row in changed if row.option.reloadable]
    merged = with_changes(running, read, [row.place for row in applied])
    if _protected(merged) != _protected(running):
        applied = [row for row in applied if not (row.option.secret or row.place in _CERTIFICATE)]
    if not (running.server.trusted_proxies and read.server.trusted_proxies):
        applied = [row for row in applied if row.place != "server.trusted_proxies"]
    return Changes(tuple(applied), tuple(row for row in changed if row not in applied))


def with_changes(running: Options, read: Options, places: Collection[str]) -> Options:
    """The running options, with the values that were read for these places."""
    rooms: dict[str, dict[str, Any]] = {}
    for row in TABLE:
        if row.place in places:
            rooms.setdefault(row.room, {})[row.name] = row.value_in(read)
    groups = {room: replace(getattr(running, room), **values) for room, values in rooms.items()}
    return replace(running, **groups)


def described(row: OptionRow, running: Options, read: Options) -> str:
    """A change for the log, such as ``limits.max_streams: 100 → 200``; secrets are masked."""
    before, after = (_shown(row, each) for each in (running, read))
    if before == after:  # masked, or cut
        return f"{row.option.toml}: changed"
    return f"{row.option.toml}: {before} → {after}"


def _shown(row: OptionRow, options: Options) -> str:
    text = masked(row, row.value_in(options)) or "(empty)"
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _protected(options: Options) -> tuple[object, ...]:
    """Equal for options with the same keys and certificates, whatever their values."""
    found = keys(options)
    return (
        [getattr(found, name) is None for name in found.__struct_fields__],
        bool(options.admin.secret),
        bool(options.server.ssl_cert),
        [replace(app, secret="set" if app.secret else "") for app in pusher_apps(options)],
    )
