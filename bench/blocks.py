"""Catenary, while it says what it holds whenever it is asked.

    python -m bench.blocks FILE FLAGS...

SIGUSR1 asks, and the answer is FILE, written anew. Memory of the process says little about what is
held: allocators keep what was freed, in pieces. The interpreter's own count of blocks is exact.
Knows: the interpreter. Does not know: what the server does.
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
"""For an answer: a server that is at rest needs a tenth of a second."""


class Held(msgspec.Struct, frozen=True):
    """Blocks that the interpreter has handed out, and the objects that its collector knows, by type.

    Blocks are all objects of up to 512 bytes. The collector knows containers, and none of those
    that were there when the server began to serve. Whatever else there is comes from malloc: its
    bytes are exact where GLIBC_TUNABLES is glibc.malloc.tcache_count=0, for what it keeps in its
    caches counts as used; None where it is not glibc's.
    """

    blocks: int
    types: dict[str, int]
    malloc_bytes: int | None


def ask(pid: int, path: Path) -> Held:
    """What a server holds that was started as above. Raises TimeoutError."""
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} did not say what it holds in {PATIENCE_S} s")
        time.sleep(0.01)
    return msgspec.json.decode(path.read_bytes(), type=Held)


def _held() -> Held:
    # Twice: what the first collection finalizes may have been all that held something else.
    gc.collect()
    gc.collect()
    blocks, malloc_bytes = sys.getallocatedblocks(), _malloc_bytes()
    return Held(blocks, Counter(map(_name, gc.get_objects())), malloc_bytes)


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
    told = mallinfo()
    return int(told.uordblks + told.hblkhd)


def _name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _answer(path: Path) -> None:
    # Renamed when it is whole: whoever asked waits for its name.
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(msgspec.json.encode(_held()))
    unfinished.rename(path)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: _answer(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
