"""The application of examples/chat as a process of its own, exactly as its README starts it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.ports import free_port, wait_until_listening

CHAT = Path(__file__).parents[2] / "examples" / "chat"


@contextmanager
def chat_app(redis_url: str) -> Iterator[str]:
    """The application for the length of a with block; gives its RPC address.

    Raises RuntimeError with its output where it does not listen.
    """
    port = free_port()
    address = f"127.0.0.1:{port}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, CHAT / "app.py"],
            env={**os.environ, "REDIS_URL": redis_url, "RPC_HOST": address},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            try:
                wait_until_listening(port)
            except TimeoutError as error:
                output.seek(0)
                raise RuntimeError(f"{CHAT / 'app.py'}:\n{output.read().decode()}") from error
            yield address
        finally:
            process.terminate()
            process.wait()
