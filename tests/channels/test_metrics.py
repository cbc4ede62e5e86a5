"""The counters of an application in Python are among the server's metrics, also with code workers."""

import re
import urllib.request
from pathlib import Path

import pytest

from tests.parts.cable_client import CableClient, identifier
from tests.parts.server import OURS, CableServer, cable_server

APPLICATION = """
import time

from catenary import Cable, Channel, Connection, action


class Busy(Channel[Connection]):
    @action(rate="1/h")
    async def seldom(self):
        self.transmit("once")

    @action
    async def broken(self):
        raise ValueError("on purpose")

    @action
    async def slow(self):
        time.sleep(0.06)
        self.transmit("at last")


cable = Cable(channels=[Busy], slow_ms=30)
"""

BUSY = identifier("Busy")


@pytest.mark.parametrize("where", [(), ("--app_workers=1",)], ids=["in process", "in a worker"])
def test_limited_failed_and_slow_calls_are_counted(where: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(APPLICATION)
    with (
        cable_server(
            *("--broadcast_adapter=http", "--metrics_http=/metrics", *where),
            command=(*OURS, "busy:cable"),
            directory=tmp_path,
        ) as server,
        CableClient(server.cable_url) as client,
    ):
        client.receive_welcome()
        client.subscribe(BUSY)
        assert counted(server) == {"limited": 0, "failed": 0, "slow": 0}
        for action in ("seldom", "seldom", "broken", "broken", "slow"):
            client.perform(BUSY, action)
        assert client.receive()["message"] == "once"
        assert client.receive()["message"] == "at last"
        # A limited call has failed, too, because nothing rescued its exception.
        assert counted(server) == {"limited": 1, "failed": 3, "slow": 1}


def test_a_server_without_a_python_application_has_no_such_metrics() -> None:
    with cable_server("--public", "--norpc", "--metrics_http=/metrics") as server:
        assert counted(server) == {}


def counted(server: CableServer) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
        found = re.findall(
            r"^anycable_go_app_(limited|failed|slow)_total (\d+)$",
            answer.read().decode(),
            re.MULTILINE,
        )
    return {name: int(value) for name, value in found}
