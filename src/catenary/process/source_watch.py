"""Watches Python files for changes, for ``--reload``.

The system reports that something happened in a directory; two snapshots of all source files decide what
changed. So nothing is missed while the watch is set up or extended to new directories.
Needs the extra ``reload``. Knows: files. Does not know: what happens after a change.
"""

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final

from catenary.errors import MissingExtra
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.code")

SETTLE_MS: Final = 400
"""Changes within this time, as an editor or git makes them, are reported together."""

RECHECK_MS: Final = 1_000
"""When a new watch compares snapshots, if no event made it compare them before."""

SUFFIXES: Final = (".py", ".pyx", ".pyd")
_TEMPORARY: Final = (".", "flycheck_")
"""Files of editors begin with these."""

_PRUNED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
_VENV: Final = "pyvenv.cfg"
"""The file that marks a virtual environment, whatever its name."""

Version = tuple[int, int, int]


class SourceTree:
    """The source files under a directory at one moment: ``directories``, and ``files`` with their versions.

    Hidden directories, ``__pycache__``, ``node_modules`` and virtual environments are not entered.
    Symbolic links are followed, each directory once.
    """

    __slots__ = ("directories", "files")

    def __init__(self, root: Path) -> None:
        self.directories: set[Path] = set()
        self.files: dict[Path, Version] = {}
        entered: set[Path] = set()
        for path, below, names in os.walk(root, followlinks=True):
            directory = Path(path)
            real = directory.resolve()
            is_venv = _VENV in names and directory != root
            if is_venv or real in entered:
                below.clear()
                continue
            entered.add(real)
            below[:] = [name for name in below if name not in _PRUNED and name[0] != "."]
            self.directories.add(directory)
            for name in names:
                if name.endswith(SUFFIXES) and not name.startswith(_TEMPORARY):
                    self._add(directory / name)

    def _add(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # it is being replaced: its next event follows
            status = path.stat()
            self.files[path] = (status.st_mtime_ns, status.st_size, status.st_ino)

    def changed_since(self, earlier: "SourceTree") -> list[str]:
        """The names of files that were added, changed or removed, in order."""
        changed = self.files.items() ^ earlier.files.items()
        return sorted({path.name for path, _ in changed})


class SourceWatch:
    """Watches the Python files under a directory, as :class:`SourceTree` finds them.

    Changes count from its construction on.
    """

    def __init__(
        self,
        directory: Path,
        changed: Callable[[], object],
        supervisor: Supervisor | None = None,
    ) -> None:
        """Raises :class:`MissingExtra`."""
        try:
            from watchfiles import awatch
        except ImportError as error:
            raise MissingExtra("reload", "reload") from error
        self._directory = directory
        self._changed = changed
        self._tree = SourceTree(directory)
        self._stopping = asyncio.Event()
        self._await_events = functools.partial(
            awatch,
            watch_filter=self._is_relevant,
            debounce=SETTLE_MS,
            rust_timeout=RECHECK_MS,
            yield_on_timeout=True,
            # One watch of the kernel for each directory: recursive watches include what is pruned here.
            recursive=False,
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
        while not self._stopping.is_set():
            # A directory that was removed since the snapshot can't be watched.
            with contextlib.suppress(FileNotFoundError):
                async with contextlib.aclosing(self._events()) as events:
                    await self._compare_at(events)

    def _events(self) -> AsyncGenerator[set[Any], None]:
        return self._await_events(*sorted(self._tree.directories))

    async def _compare_at(self, events: AsyncGenerator[set[Any], None]) -> None:
        """Returns when other directories are to be watched."""
        watched = self._tree.directories
        is_compared = False
        async for changes in events:
            if changes or not is_compared:
                await self._compare()
                is_compared = True
            if self._tree.directories != watched:
                return

    async def _compare(self) -> None:
        earlier = self._tree
        self._tree = await asyncio.to_thread(SourceTree, self._directory)
        names = self._tree.changed_since(earlier)
        if names:
            _log.info("Source files changed: %s", ", ".join(names[:5]))
            self._changed()

    def _is_relevant(self, _: object, path: str) -> bool:
        """Other files change often: logs, databases."""
        directory = Path(path)
        return path.endswith(SUFFIXES) or directory in self._tree.directories or directory.is_dir()
