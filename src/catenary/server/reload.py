"""SIGHUP: reads the configuration again and applies what a running server can apply.

Flags and variables are those of the start. A configuration that can't be used changes nothing.
Knows: options, the parts that apply them. Does not know: signals.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

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


class ReadAgain(NamedTuple):
    """A configuration that was read again: the ``request``, its effective ``options`` and what has changed."""

    request: StartRequest
    options: Options
    found: Changes


def read_again(read: Callable[[], StartRequest], running: Options) -> ReadAgain:
    """Reads the configuration and compares it with the ``running`` one. Raises :class:`ConfigError`."""
    request = read()
    options = effective(request.options)
    return ReadAgain(request, options, changes(running, options))


def report_refused(error: ConfigError) -> None:
    """Logs that a configuration can't be used."""
    _log.error("Reload: the configuration is left as it was: %s", error)


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
            request, read, found = read_again(self._read, running)
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
            report_refused(error)
            return False
        build.settings = settings
        for each in apply:
            each()
        if retires:
            asyncio.get_running_loop().call_later(grace_s, self._forget, running)
        report(found, running, read)
        return True

    def accept(self, retired: Options, until: float) -> None:
        """Accepts the secrets of an earlier configuration until a time, in seconds since 1970."""
        left_s = until - time.time()
        if left_s <= 0:
            return
        build, settings = self._build, self._build.settings
        build.settings = replace(settings, retired=(*settings.retired, retired))
        self._apply_secrets()
        asyncio.get_running_loop().call_later(left_s, self._forget, retired)

    def _forget(self, options: Options) -> None:
        """The secrets of these options are refused from now on."""
        build, settings = self._build, self._build.settings
        retired = tuple(each for each in settings.retired if each is not options)
        build.settings = replace(settings, retired=retired)
        self._apply_secrets()
        _log.info("The secrets that a reload has replaced are no longer accepted")

    def _apply_secrets(self) -> None:
        for apply in self._build.reloads.prepare(self._build.settings, SECRETS):
            apply()


def report(
    found: Changes, running: Options, read: Options, later: str = "waiting for a restart"
) -> None:
    """Logs the difference. ``later`` says what becomes of options that a running process can't apply."""
    for row in found.applied:
        _log.info("Reload: %s", described(row, running, read))
    for row in found.restart:
        _log.warning("Reload: %s: %s", later, described(row, running, read))
    _log.info("Reload: options applied: %d, %s: %d", len(found.applied), later, len(found.restart))


def _sources(
    running: Mapping[str, str], read: Mapping[str, str], places: Collection[str]
) -> dict[str, str]:
    """Where the present values come from: those of ``places`` were read again."""
    kept = {place: source for place, source in running.items() if place not in places}
    return kept | {place: source for place, source in read.items() if place in places}
