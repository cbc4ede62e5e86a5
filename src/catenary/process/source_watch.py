"""Watches Python files for changes, for ``--reload``.

Needs the extra ``reload``. Knows: files. Does not know: what happens after a change.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from catenary.errors import MissingExtra
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.code")

SETTLE_MS: Final = 400
"""Changes within this time, as an editor or git makes them, are reported together."""


class SourceWatch:
    """Watches the Python files under a directory, except hidden ones and those of libraries."""

    def __init__(
        self,
        directory: Path,
        changed: Callable[[], None],
        supervisor: Supervisor | None = None,
    ) -> None:
        """Raises :class:`MissingExtra`."""
        try:
            from watchfiles import PythonFilter, awatch
        except ImportError as error:
            raise MissingExtra("reload", "reload") from error
        self._changed = changed
        self._stopping = asyncio.Event()
        self._watch_changes = functools.partial(
            awatch,
            directory,
            watch_filter=PythonFilter(),
            debounce=SETTLE_MS,
            stop_event=self._stopping,
        )
        self._service = Service(f"watching files in {directory}", self._watch, supervisor)

    async def start(self) -> None:
        """Starts watching: ``changed`` is called after every change."""
        self._service.start()

    async def stop(self, timeout_s: float) -> None:
        """Stops watching."""
        self._stopping.set()
        await self._service.stop(timeout_s)

    async def _watch(self) -> None:
        async for changes in self._watch_changes():
            names = sorted({Path(path).name for _, path in changes})
            _log.info("Source files changed: %s", ", ".join(names[:5]))
            self._changed()
