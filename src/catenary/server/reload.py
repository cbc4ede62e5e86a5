"""SIGHUP: reads the configuration again and applies what a running server can apply.

Flags and variables are those of the start. A configuration that can't be used changes nothing.
Knows: options, the parts that apply them. Does not know: signals.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from msgspec.structs import replace

from catenary.config.changes import Changes, changes, described, with_changes
from catenary.config.effective import effective
from catenary.config.load import StartRequest
from catenary.config.options import Options
from catenary.errors import ConfigError
from catenary.server.build import ServerBuild
from catenary.server.reloads import Settings
from catenary.server.replaced_values import SECRETS

_log: Final = logging.getLogger("catenary.server")


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
            request = self._read()
            read = effective(request.options)
            found = changes(running, read)
            options = with_changes(running, read, found.places)
            grace_s = options.access.rotation_grace_s
            retires = grace_s > 0 and not found.places.isdisjoint(SECRETS)
            retired = build.settings.retired
            settings = Settings(
                options,
                (running, *retired) if retires else retired,
                _sources(build.settings.sources, request.sources, found.places),
            )
            apply = build.reloads.prepare(settings, found.places | build.reloads.files)
        except ConfigError as error:
            _log.error("Reload: the configuration is left as it was: %s", error)
            return False
        build.settings = settings
        for each in apply:
            each()
        if retires:
            asyncio.get_running_loop().call_later(grace_s, self._forget, running)
        report(found, running, read)
        return True

    def _forget(self, options: Options) -> None:
        """The secrets of these options are refused from now on."""
        build, settings = self._build, self._build.settings
        retired = tuple(each for each in settings.retired if each is not options)
        build.settings = replace(settings, retired=retired)
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


def _sources(
    running: Mapping[str, str], read: Mapping[str, str], places: Collection[str]
) -> dict[str, str]:
    """Where the present values come from: those of ``places`` were read again."""
    kept = {place: source for place, source in running.items() if place not in places}
    return kept | {place: source for place, source in read.items() if place in places}
