"""The order in which a server shuts down, seen from outside: its log, and the calls to its application."""

import re
import sys
import textwrap
from pathlib import Path

import pytest

from catenary.server.shutdown_phases import PHASES
from tests.parts.cable_client import CableClient
from tests.parts.redis import redis_server
from tests.parts.server import CableServer

APPLICATION = """
    import logging

    from catenary import Cable, Connection

    class Visitor(Connection):
        async def connect(self):
            pass

        async def disconnect(self):
            logging.getLogger("catenary.code").info("Disconnect call received")

    cable = Cable(connection=Visitor, channels=[])

    async def pages(scope, receive, send):
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
"""

SABOTAGED = """
import asyncio
import sys
from catenary.cli import main
from catenary.node.node import Node

async def settle(self, timeout_s):
    {}

Node.settle = settle
sys.exit(main(sys.argv[1:]))
"""

FAULTS = {
    "hangs": ("await asyncio.Event().wait()", "Shutdown phase abandoned after"),
    "raises": ("raise OSError('no way')", "Shutdown phase failed"),
    "exits": ("sys.exit(3)", "Shutdown phase failed"),
}


def phases_in(output: str) -> list[str]:
    return re.findall(r"Shutdown phase ended: (.+) \(\d+\.\d+ s\)", output)


PUSHER_APPS = (
    '[{"id": "a", "key": "k", "secret": "s", "webhooks": [{"url": "http://127.0.0.1:9/hook"}]}]'
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(textwrap.dedent(APPLICATION))
    return tmp_path


def output_of_a_shutdown(command: tuple[str, ...], flags: tuple[str, ...], directory: Path) -> str:
    """Serves one client, stops, and returns the log."""
    server = CableServer((*command, "app:cable"), ("--log_level=debug", *flags), {}, directory)
    try:
        server.wait_until_ready()
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            assert server.stop() == 0
        return server.output()
    finally:
        server.close()


def test_phases_end_in_their_order(directory: Path) -> None:
    with redis_server() as redis:
        flags = (
            "--asgi=app:pages",
            "--broadcast_adapter=redis,http",
            "--presets=broker",
            "--broker=redis",
            f"--redis_url={redis.url}",
            f"--pusher_apps={PUSHER_APPS}",
            "--metrics_log",
            "--otel",
            "--otel_exporter=console",
        )
        output = output_of_a_shutdown((sys.executable, "-m", "catenary"), flags, directory)
    expected = [phase.name for phase in PHASES if phase.name != "stop embedded NATS"]
    assert phases_in(output) == expected
    assert "Disconnect call received" in output


@pytest.mark.parametrize("fault", FAULTS)
def test_a_phase_that_does_not_end_in_order_keeps_no_other_from_ending(
    fault: str, directory: Path
) -> None:
    statement, line = FAULTS[fault]
    command = (sys.executable, "-c", SABOTAGED.format(statement))
    output = output_of_a_shutdown(command, ("--shutdown_timeout=2",), directory)
    assert line in output
    assert phases_in(output) == [
        "drain clients",
        "close listeners",
        "stop timers",
        "save sessions",
        "flush disconnects",
        "close application",
    ]
    assert "Disconnect call received" in output
    assert output.splitlines()[-1].endswith("server: Stopped")
