"""Open files, memory, the garbage collector: in a process of their own, because they change it."""

import json
import subprocess
import sys
from typing import Any

PRINT = "import json, gc, resource; from catenary.process.resources import *; "


def printed(code: str, *, open_files: tuple[int, int] | None = None) -> Any:
    """Runs code in another Python, and reads the JSON that it prints."""
    limit = (
        "" if open_files is None else f"ulimit -Sn {open_files[0]}; ulimit -Hn {open_files[1]}; "
    )
    command = [f'{limit}exec "$0" -c "$1"', sys.executable, PRINT + code]
    return json.loads(
        subprocess.run(["bash", "-c", *command], capture_output=True, check=True).stdout
    )


def test_the_limit_of_open_files_is_raised_to_the_hard_limit() -> None:
    code = "print(json.dumps([raise_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE)]))"
    assert printed(code, open_files=(100, 200)) == [200, 200, 200]


def test_present_objects_are_excluded_from_collections_and_later_ones_are_not() -> None:
    code = """
class Later: ...
freeze_gc()
frozen = gc.get_freeze_count()
one = Later(); one.itself = one; del one
print(json.dumps([frozen > 1000, gc.get_threshold(), gc.collect() > 0]))
"""
    assert printed(code) == [True, [20_000, 20, 50], True]


def test_resident_memory_grows_with_what_is_used() -> None:
    code = "before = resident_bytes(); kept = b'x' * 50_000_000; print(resident_bytes() - before)"
    assert 45_000_000 < printed(code) < 60_000_000
