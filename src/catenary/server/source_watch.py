"""Python files that change: for ``--reload``.

Needs the extra ``reload``. Knows: files. Does not know: what their change is good for.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from catenary.errors import MissingExtra

_log: Final = logging.getLogger("catenary.code")

SETTLE_MS: Final = 400
"""Changes that follow each other so closely, as an editor or git makes them, are one at most."""


class SourceWatch:
    """Watches the Python files under a directory; those of libraries and hidden ones are left out."""

    def __init__(self, directory: Path, changed: Callable[[], None]) -> None:
        """Raises :class:`MissingExtra`."""
        try:
            from watchfiles import PythonFilter, awatch
        except ImportError as error:
            raise MissingExtra("reload", "reload") from error
        self._directory = directory
        self._changed = changed
        self._stopping = asyncio.Event()
        self._changes = awatch(
            directory,
            watch_filter=PythonFilter(),
            debounce=SETTLE_MS,
            stop_event=self._stopping,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """From now on the function is called behind every change."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self, timeout_s: float) -> None:
        """Watches no more."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout_s)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        try:
            async for changes in self._changes:
                names = sorted({Path(path).name for _, path in changes})
                _log.info("Changed: %s", ", ".join(names[:5]))
                self._changed()
        except Exception:  # noqa: BLE001
            # The system may have no more watches to give; clients are served all the same.
            _log.exception("The files under %s can't be watched any more", self._directory)
