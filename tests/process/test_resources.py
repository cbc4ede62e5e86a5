"""Open files, memory, the garbage collector: in a process of their own, because they change it."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

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


def test_virtual_memory_and_its_parts_are_read() -> None:
    code = "print(json.dumps([virtual_bytes(), memory_bytes('VmData'), memory_bytes('None')]))"
    virtual, data, unknown = printed(code)
    assert virtual > data > 1_000_000
    assert unknown == 0


OPEN = """
files = OpenFiles()
before = files.read()
import time
kept = [open("/dev/null") for _ in range(50)]
while files.read() < before + 50: time.sleep(0.001)
print(json.dumps(files.read() - before))
"""


LISTED = """
from pathlib import Path
from catenary.process import resources
resources._FILES = Path('/proc/self/fdinfo')  # its size is 0, as that of fd before Linux 6.2
"""


@pytest.mark.parametrize("prepare", ["", LISTED], ids=["size of the directory", "listed"])
def test_open_files_are_counted(prepare: str) -> None:
    assert printed(prepare + OPEN) == 50


def test_the_start_of_the_process_is_known() -> None:
    before = time.time()
    started_at, measured_at = printed("import time; print(json.dumps([started_at(), time.time()]))")
    assert before - 0.1 < started_at < measured_at


def test_cpu_time_grows_with_work() -> None:
    code = "before = cpu_seconds(); sum(range(10**6)); print(cpu_seconds() - before)"
    assert 0 < printed(code) < 5
