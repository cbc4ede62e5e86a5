"""Writes clients to the log, as far as the level of the log wants it.

Knows: the level, the observers of the log. Does not know: what is written.
"""

import functools
import logging
from typing import Final

from catenary.config.options import LogLevel
from catenary.logs.clients import LifeLog, RefusalLog
from catenary.node.observers import ObserverGroup
from catenary.ports import Observer
from catenary.process import logs
from catenary.server.build import ServerBuild

_OBSERVERS: Final = ((logging.INFO, RefusalLog), (logging.DEBUG, LifeLog))


def add_client_log(build: ServerBuild) -> None:
    """Attaches the observers of the log. At a higher level there are none, and they cost nothing."""
    log = _ClientLog(build.observers)
    log.adapt()
    build.reloads.add(
        ("log.level", "log.debug"),
        lambda new: functools.partial(log.change_level, new.options.log.level),
    )


class _ClientLog:
    """The observers that are attached at the present level."""

    def __init__(self, observers: ObserverGroup) -> None:
        self._observers = observers
        self._attached: list[Observer] = []

    def change_level(self, level: LogLevel) -> None:
        """Changes the level of the whole log."""
        logs.set_level(level)
        self.adapt()

    def adapt(self) -> None:
        """Attaches the observers that the present level of the log wants, and no others."""
        for each in self._attached:
            self._observers.detach(each)
        log = logging.getLogger("catenary.client")
        self._attached = [build() for level, build in _OBSERVERS if log.isEnabledFor(level)]
        for each in self._attached:
            self._observers.attach(each)
