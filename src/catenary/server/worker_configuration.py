"""The configuration file as all workers of a server read it: the text that their parent has checked.

A worker that is restarted after a crash must not read a file that somebody is editing, and must accept the secrets that its
predecessor did. The parent writes the text to the directory of its workers, which only its user can enter.
Knows: files. Does not know: options.
"""

import os
from pathlib import Path
from typing import Final, Self

import msgspec

_NAME: Final = "configuration"


class Retired(msgspec.Struct, frozen=True):
    """The text of an earlier configuration, whose secrets are accepted until a time, in seconds since 1970."""

    text: str
    until: float


class WorkerConfiguration(msgspec.Struct, frozen=True):
    """``path`` is that of the file, None without one; ``text`` its content."""

    path: str | None
    text: str
    retired: tuple[Retired, ...] = ()

    @classmethod
    def find(cls, directory: str) -> Self | None:
        """The present one. None if the parent has no directory for its workers: then each reads the file itself."""
        try:
            return msgspec.json.decode((Path(directory) / _NAME).read_bytes(), type=cls)
        except FileNotFoundError:
            return None

    def write(self, directory: str) -> None:
        """Replaces the present one at once, so that no worker reads a part of it."""
        new = Path(directory) / f"{_NAME}.new"
        new.touch(0o600)
        new.write_bytes(msgspec.json.encode(self))
        os.replace(new, Path(directory) / _NAME)  # noqa: PTH105  (the same)

    def read(self, path: str) -> str | None:
        """The text of the file at this path, as :func:`catenary.config.load.load` wants it."""
        return self.text if path == self.path else None

    def before(self, retired: Retired) -> "WorkerConfiguration":
        """The configuration that a reload has replaced."""
        return WorkerConfiguration(self.path, retired.text)
