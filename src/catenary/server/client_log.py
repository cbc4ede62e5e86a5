"""Writes clients to the log, as far as the level of the log wants it.

Knows: the level, the observers of the log. Does not know: what is written.
"""

import logging

from catenary.logs.clients import LifeLog, RefusalLog
from catenary.server.build import ServerBuild


def add_client_log(build: ServerBuild) -> None:
    """Attaches the observers of the log. At a higher level there are none, and they cost nothing."""
    log = logging.getLogger("catenary.client")
    if log.isEnabledFor(logging.INFO):
        build.observers.attach(RefusalLog())
    if log.isEnabledFor(logging.DEBUG):
        build.observers.attach(LifeLog())
