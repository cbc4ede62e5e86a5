"""Runs Catenary and reports its allocations on request.

    python -m bench.blocks FILE FLAGS...

On SIGUSR2 the server writes FILE. The memory of a process shows little about allocations, because
allocators keep freed memory; the interpreter's own count of blocks is exact.
Knows: the interpreter. Does not know: the server.
"""

import ctypes
import gc
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from catenary.cli import main

PATIENCE_S: Final = 10.0
"""For an answer: an idle server needs 0.1 s."""


class Allocations(msgspec.Struct, frozen=True):
    """Blocks that the interpreter has allocated, and the objects that its garbage collector tracks, by type.

    Blocks are objects of up to 512 bytes. The collector tracks containers that were created since the
    server began to serve. Everything else comes from malloc: its bytes are exact with
    GLIBC_TUNABLES=glibc.malloc.tcache_count=0, because cached memory counts as used; None without glibc.
    """

    blocks: int
    types: dict[str, int]
    malloc_bytes: int | None


def ask(pid: int, path: Path) -> Allocations:
    """The allocations of a server that was started as above. Raises TimeoutError."""
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR2)
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"process {pid} did not report its allocations within {PATIENCE_S} s"
            )
        time.sleep(0.01)
    return msgspec.json.decode(path.read_bytes(), type=Allocations)


def _allocations() -> Allocations:
    # Twice: objects that the first collection finalizes may have been the last references to others.
    gc.collect()
    gc.collect()
    blocks, malloc_bytes = sys.getallocatedblocks(), _malloc_bytes()
    return Allocations(blocks, Counter(map(_name, gc.get_objects())), malloc_bytes)


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of mallinfo(3): uordblks is the bytes in use."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _malloc_bytes() -> int | None:
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return None
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


def _name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _write_report(path: Path) -> None:
    # Renamed when it is complete, because the reader waits for its name.
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(msgspec.json.encode(_allocations()))
    unfinished.rename(path)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, lambda *_: _write_report(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
