"""docs/asgi.md: its code blocks as files, its applications served with its commands."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts import guide
from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.server import OURS, cable_server

ORDERS = identifier("OrdersChannel")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files of the guide."""
    return guide.write("asgi", tmp_path_factory.mktemp("guide"))


@contextmanager
def process(directory: Path, port: int, *arguments: str) -> Iterator[None]:
    started = subprocess.Popen([sys.executable, *arguments], cwd=directory)
    try:
        wait_until_listening(port)
        yield
    finally:
        started.terminate()
        started.wait(10)


def post(url: str) -> str:
    """The cookie of the response to an empty POST."""
    with urllib.request.urlopen(url, b"", timeout=5) as answer:
        cookie: str = answer.headers.get("set-cookie", "")
        return cookie.partition(";")[0]


def orders_arrive(cable_url: str, pages: str) -> None:
    with CableClient(cable_url) as stranger:
        assert stranger.receive()["reason"] == "unauthorized"
    with CableClient(cable_url, headers={"Cookie": post(f"{pages}/login/7")}) as client:
        client.receive_welcome()
        assert client.subscribe(ORDERS) == confirmed(ORDERS)
        post(f"{pages}/orders/7")
        assert client.receive()["message"] == {"status": "paid"}


def test_pages_on_our_port(written: Path) -> None:
    command = (*OURS, "shop:cable")
    env = {"PYTHONPATH": str(written)}
    with cable_server(
        "--broadcast_adapter=http", "--asgi=shop:api", command=command, env=env
    ) as ours:
        orders_arrive(ours.cable_url, f"http://127.0.0.1:{ours.port}")


def test_the_cable_in_uvicorn(written: Path) -> None:
    port = free_port()
    with process(written, port, "-m", "uvicorn", "mounted:app", f"--port={port}"):
        url = f"127.0.0.1:{port}"
        orders_arrive(f"ws://{url}/cable/", f"http://{url}/shop")
        cookie = post(f"http://{url}/shop/login/7")
        with CableClient(f"ws://{url}/cable/", headers={"Cookie": cookie}) as client:
            client.receive_welcome()
            post(f"http://{url}/maintenance")
            assert client.receive()["reason"] == "remote"


def test_the_cable_at_a_path_without_a_slash(written: Path) -> None:
    port = free_port()
    with (
        process(written, port, "-m", "hypercorn", f"--bind=127.0.0.1:{port}", "routed:app"),
        CableClient(f"ws://127.0.0.1:{port}/cable") as stranger,
    ):
        assert stranger.receive()["reason"] == "unauthorized"


def test_flask_behind_the_server(written: Path) -> None:
    port = free_port()
    flags = ("--secret=cable-s3cret", f"--rpc_host=http://127.0.0.1:{port}/_anycable")
    with cable_server(*flags, "--broadcast_adapter=http") as ours:
        code = (written / "flask_app.py").read_text()
        code = code.replace("http://localhost:8080/", f"http://127.0.0.1:{ours.broadcast_port}/")
        serve = (
            "\nfrom werkzeug.serving import run_simple\n"
            f"run_simple('127.0.0.1', {port}, wsgi, threaded=True)"
        )
        with process(written, port, "-c", code + serve):
            orders_arrive(ours.cable_url, f"http://127.0.0.1:{port}")
            # The server reports the end of its clients to an application that still runs.
            assert ours.stop() == 0
