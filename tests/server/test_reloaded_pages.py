"""``--reload`` with ``--asgi``: an edited page answers, and publishes to clients, without a restart by hand."""

import signal
import urllib.request
from pathlib import Path

import pytest

from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.server import OURS, CableServer, cable_server

ROLLED = "all workers have been replaced"
NEWS = identifier("News")

APPLICATION = """
from fastapi import FastAPI

from catenary import Cable, Channel


class News(Channel):
    async def subscribed(self):
        self.stream_for("all")


cable = Cable(channels=[News])
pages = FastAPI()


@pages.get("/version")
async def version():
    return %d


@pages.post("/publish")
async def publish():
    await News.broadcast_to("all", %d)
"""


def write(directory: Path, version: int) -> None:
    (directory / "site_with_pages.py").write_text(APPLICATION % (version, version))


def fetch(server: CableServer, path: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{server.port}{path}", body, timeout=30
    ) as answer:
        content: bytes = answer.read()
        return content


def subscribes_and_hears(server: CableServer, version: int) -> None:
    with CableClient(server.cable_url) as client:
        client.receive_welcome()
        assert client.subscribe(NEWS) == confirmed(NEWS)
        fetch(server, "/publish", b"")
        assert client.receive() == delivered(NEWS, version)


@pytest.mark.parametrize("flag", ["--reload", "--app_workers=1"])
def test_an_edited_page_answers_and_publishes(flag: str, tmp_path: Path) -> None:
    write(tmp_path, 1)
    flags = ("--broadcast_adapter=http", flag, "--asgi=site_with_pages:pages")
    command = (*OURS, "site_with_pages:cable")
    with cable_server(*flags, command=command, directory=tmp_path) as server:
        subscribes_and_hears(server, 1)
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            write(tmp_path, 2)
            if flag != "--reload":
                server.process.send_signal(signal.SIGHUP)
            server.wait_for_output(ROLLED)
            assert client.receive()["reason"] == "server_restart"
        assert fetch(server, "/version") == b"2"
        subscribes_and_hears(server, 2)
        if flag == "--reload":
            _keeps_serving_with_a_broken_file(server, tmp_path)
        assert server.stop() == 0


def _keeps_serving_with_a_broken_file(server: CableServer, directory: Path) -> None:
    (directory / "site_with_pages.py").write_text("this is no Python")
    server.wait_for_output("Worker 1 can't be replaced")
    assert fetch(server, "/version") == b"2"
    write(directory, 3)
    server.wait_for_output(ROLLED, times=2)
    assert fetch(server, "/version") == b"3"
