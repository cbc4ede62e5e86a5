"""New values of options for a server that runs: each part of it registers how it applies those that concern it.

Knows: options. Does not know: when the configuration is read again (``server/reload.py``), what a part does with a value.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec

from catenary.config.options import TABLE, Options


class Settings(msgspec.Struct, frozen=True):
    """The effective options of a running server, and earlier ones whose secrets are still accepted, the latest first.

    ``sources`` says where values come from (:class:`catenary.config.load.StartRequest`).
    """

    options: Options
    retired: tuple[Options, ...] = ()
    sources: Mapping[str, str] = {}


Prepare = Callable[[Settings], Callable[[], None]]
"""Builds what the new values need and returns the function that applies them. It may raise :class:`catenary.errors.ConfigError`;
then nothing of the reload is applied. The returned function must not fail."""


class Reloads:
    """The parts of a server that apply new values."""

    __slots__ = ("_parts", "files")

    def __init__(self) -> None:
        self._parts: list[tuple[frozenset[str], Prepare]] = []
        self.files: frozenset[str] = frozenset()
        """Options that name files, which may have changed although the option has not."""

    def add(self, places: Iterable[str], prepare: Prepare, *, are_files: bool = False) -> None:
        """Calls ``prepare`` when the value of one of these options has changed; if they name files, at each reload.

        ``places`` are those of reloadable options, such as ``limits.max_streams``: an option that is not reloadable
        raises ValueError.
        """
        stated = frozenset(places)
        if not stated <= RELOADABLE:
            raise ValueError(f"expected reloadable options, got {sorted(stated - RELOADABLE)}")
        self._parts.append((stated, prepare))
        if are_files:
            self.files |= stated

    @property
    def places(self) -> frozenset[str]:
        """The options that a part of this server applies."""
        return frozenset[str]().union(*(stated for stated, _ in self._parts))

    def prepare(self, settings: Settings, places: Collection[str]) -> list[Callable[[], None]]:
        """The functions that apply the values of these options. Raises :class:`catenary.errors.ConfigError`."""
        changed = frozenset(places)
        return [prepare(settings) for stated, prepare in self._parts if stated & changed]


RELOADABLE: Final = frozenset(row.place for row in TABLE if row.option.reloadable)
