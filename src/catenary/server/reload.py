"""SIGHUP: reads the configuration again and applies what a running server can apply.

Flags and variables are those of the start. A configuration that can't be used changes nothing.
Knows: options, the parts that apply them. Does not know: signals.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from catenary.config.changes import Changes, changes, described, with_changes
from catenary.config.effective import effective
from catenary.config.load import StartRequest
from catenary.config.options import TABLE, Options
from catenary.errors import ConfigError
from catenary.server.build import ServerBuild
from catenary.server.reloads import Settings

_log: Final = logging.getLogger("catenary.server")

SECRETS: Final = frozenset(
    row.place for row in TABLE if row.option.reloadable and row.option.secret
)


class ConfigReload:
    """Reads the configuration with ``read`` and applies the difference to the server of ``build``."""

    def __init__(self, build: ServerBuild, read: Callable[[], StartRequest]) -> None:
        self._build = build
        self._read = read

    def __call__(self) -> bool:
        """Returns whether the configuration could be used. Logs what has changed and what needs a restart, or why
        nothing was changed."""
        build = self._build
        running = build.settings.options
        try:
            read = effective(self._read().options)
            found = changes(running, read)
            options = with_changes(running, read, found.places)
            settings = Settings(options, self._retired(found, running))
            apply = build.reloads.prepare(settings, found.places)
        except ConfigError as error:
            _log.error("Reload: the configuration is left as it was: %s", error)
            return False
        build.settings = settings
        for each in apply:
            each()
        report(found, running, read)
        return True

    def _retired(self, found: Changes, running: Options) -> tuple[Options, ...]:
        """The options whose secrets are accepted from now on beside the present ones."""
        retired = self._build.settings.retired
        grace_s = running.access.rotation_grace_s
        if found.places.isdisjoint(SECRETS) or not grace_s:
            return retired
        asyncio.get_running_loop().call_later(grace_s, self._forget, running)
        return (running, *retired)

    def _forget(self, options: Options) -> None:
        """The secrets of these options are refused from now on."""
        build, settings = self._build, self._build.settings
        retired = tuple(each for each in settings.retired if each is not options)
        build.settings = Settings(settings.options, retired)
        for apply in build.reloads.prepare(build.settings, SECRETS):
            apply()
        _log.info("The secrets that a reload has replaced are no longer accepted")


def report(found: Changes, running: Options, read: Options) -> None:
    """Logs the difference."""
    for row in found.applied:
        _log.info("Reload: %s", described(row, running, read))
    for row in found.restart:
        _log.warning("Reload: needs a restart: %s", described(row, running, read))
    _log.info(
        "Reload: options applied: %d, waiting for a restart: %d",
        len(found.applied),
        len(found.restart),
    )
