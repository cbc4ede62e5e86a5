"""The application of examples/chat as a process of its own, as its README starts it."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.ports import free_port, wait_until_listening
from tests.parts.server import OURS

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
            [*OURS, "rpc", "app:cable", f"--rpc_host={address}"],
            cwd=CHAT,
            env={**os.environ, "REDIS_URL": redis_url},
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
