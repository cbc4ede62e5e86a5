"""The figures of a running server, as Prometheus gets them."""

import re
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import pytest

from tests.parts.cable_client import CableClient
from tests.parts.ports import free_port
from tests.parts.server import cable_server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http")


def scrape(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = response.read().decode().splitlines()
    found = [re.fullmatch(r"anycable_go_(\w+) (\d+)", line) for line in lines]
    return {each[1]: int(each[2]) for each in found if each is not None}


def test_clients_are_counted_at_the_server_s_own_port() -> None:
    with cable_server(*PUBLIC, "--metrics_http=/metrics") as server:
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            figures = scrape(server.port)
            assert (figures["clients_num"], figures["open_connections_num"]) == (1, 1)
            assert figures["mem_sys_bytes"] > 10_000_000
            assert figures["pubsub_trouble_num"] == 0
        deadline = time.monotonic() + 5
        while scrape(server.port)["clients_num"] != 0:
            assert time.monotonic() < deadline


def test_nothing_is_shown_unless_asked_for() -> None:
    with cable_server(*PUBLIC) as server, pytest.raises(urllib.error.HTTPError, match="404"):
        scrape(server.port)


def test_each_worker_shows_its_own_at_the_next_port() -> None:
    first = free_port(following=1)
    flags = (*PUBLIC, "--workers=2", "--metrics_http=/metrics", f"--metrics_port={first}")
    with cable_server(*flags) as server, ExitStack() as stack:
        server.wait_for_output("Worker 2 serves")
        for _ in range(10):
            stack.enter_context(CableClient(server.cable_url)).receive_welcome()
        assert sum(scrape(port)["clients_num"] for port in (first, first + 1)) == 10
