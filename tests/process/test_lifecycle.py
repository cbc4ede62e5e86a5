"""The life of the process: what ends it, and with which status."""

import subprocess
import sys

import pytest

from tests.parts.ports import free_port

SABOTAGED = """
import sys
from catenary.cli import main
from catenary.process.listener import Listener

async def on_tick(self, counter):
    {}

Listener.on_tick = on_tick
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("ending", "word"),
    [
        ("raise TypeError('odd')", "TypeError: odd"),
        ("raise SystemExit(0)", "SystemExit ended the server"),
        ("import asyncio; asyncio.current_task().cancel()", "CancelledError"),
        ("return True", "a listener has ended unexpectedly"),
    ],
)
def test_a_listener_that_ends_ends_the_process_with_status_1(ending: str, word: str) -> None:
    """Whatever ended it: a process that serves nobody must not look as if all were well."""
    flags = ("--public", "--norpc", "--broadcast_adapter=http")
    port = free_port()
    ended = subprocess.run(
        [
            *(sys.executable, "-c", SABOTAGED.format(ending)),
            *(*flags, f"--port={port}", f"--http_broadcast_port={port}"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert word in ended.stderr
