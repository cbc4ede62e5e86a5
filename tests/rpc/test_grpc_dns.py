import asyncio
import socket
from pathlib import Path

import pytest
import uvloop

from catenary.rpc.grpc_dns import lookup


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("turns", range(4))
def test_no_socket_is_left_open_whenever_a_lookup_is_cancelled(turns: int) -> None:
    """uvloop can't be closed with an open socket that it has forgotten: a server would not end."""

    async def scenario(port: int) -> None:
        before = open_files()
        asked = asyncio.create_task(lookup("app.test", "127.0.0.1", port))
        while open_files() == before:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait((asked,))
        async with asyncio.timeout(5):
            while open_files() > before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(scenario(silent.getsockname()[1]))
