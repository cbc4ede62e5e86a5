"""Oversized answers of a real application to a real server: refused, at no cost to other clients."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.api.test_broadcast import ask, request
from tests.parts.application import SUCCESS, Fields, TestApplication
from tests.parts.cable_client import CableClient, confirmed, identifier, rejected
from tests.parts.grpc_app import grpc_server
from tests.parts.http_app import http_server
from tests.parts.server import CableServer, cable_server


@contextmanager
def served(kind: str, application: TestApplication) -> Iterator[CableServer]:
    flags = ("--broadcast_adapter=http", "--metrics_http=/metrics")
    if kind == "grpc":
        with (
            grpc_server(application) as app,
            cable_server(f"--rpc_host={app.address}", *flags) as server,
        ):
            yield server
    else:
        with (
            http_server(application) as web,
            cable_server(f"--rpc_host={web.url}", *flags) as server,
        ):
            yield server


HUGE: dict[str, Fields] = {
    "100,000 streams": {"streams": [f"stream {number}" for number in range(100_000)]},
    "a stream name of 3 MB": {"streams": ["x" * 3_000_000]},
    "100,000 keys of state": {"env": {"istate": {f"key {n}": "" for n in range(100_000)}}},
    "100,000 keys of the connection's state": {
        "env": {"cstate": {f"key {n}": "v" for n in range(100_000)}}
    },
    "state of 3 MB": {"env": {"cstate": {"key": "x" * 3_000_000}}},
}


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_oversized_answers_are_refused_without_delaying_other_clients(kind: str) -> None:
    application = TestApplication()
    with served(kind, application) as server, CableClient(server.cable_url) as client:
        client.receive_welcome()
        for number, fields in enumerate(HUGE.values(), 1):
            application.prepared.append({"status": SUCCESS, **fields})
            echo = identifier("EchoChannel", number=number)
            assert client.subscribe(echo) == rejected(echo)
            began = time.monotonic()
            assert client.subscribe(echo) == confirmed(echo)
            assert time.monotonic() - began < 2
            ((_, _, figures),) = ask(server.port, request(path="/metrics", method="GET"))
            assert f"anycable_go_refused_answers_total {number}\n" in figures.decode()
        output = server.output()
        assert output.count("Answer to Subscribe refused: expected") == len(HUGE)
        for limit in ("max_streams", "max_stream_name_size", "max_state_keys", "max_state_size"):
            assert f"({limit})" in output
        assert max(map(len, output.splitlines())) < 500
