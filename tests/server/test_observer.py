"""An author's observer in a running server: notified of real clients and of a publication over HTTP."""

import json
import urllib.request
from typing import Any

from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.server import OURS, CableServer, cable_server

OBSERVED = (*OURS, "tests.server.observed:cable")
NEWS = identifier("NewsChannel")


def publish(server: CableServer) -> None:
    body = json.dumps({"stream": "news", "data": "1"}).encode()
    urllib.request.urlopen(server.broadcast_url, body, timeout=30).close()


def events(output: str) -> list[Any]:
    lines = output.splitlines()
    return [json.loads(line.removeprefix("event ")) for line in lines if line.startswith("event ")]


def test_an_observer_is_notified_of_clients_and_publications() -> None:
    with cable_server("--broadcast_adapter=http", command=OBSERVED) as server:
        with CableClient(server.cable_url) as client:
            sid = client.receive_welcome()["sid"]
            assert client.subscribe(NEWS) == confirmed(NEWS), "an observer that fails costs nothing"
            publish(server)
            assert client.receive() == delivered(NEWS, 1)
        with CableClient(server.cable_url) as other:
            server.wait_for_output('"disconnected"')
            second = other.receive_welcome()["sid"]
            assert server.stop() == 0
        output = server.output()
    assert events(output) == [
        ["connected", sid, False],
        ["subscribed", sid, NEWS],
        ["published", 1],
        ["delivered", "news", 1, 1],
        ["disconnected", sid, None],
        ["connected", second, False],
        ["disconnected", second, "SERVER_RESTART"],
    ]
    assert output.count("The observer failed in Printing.received") == 1
    assert "LookupError: the observer's own fault" in output


def test_an_observer_is_notified_of_the_commands_of_an_event_stream() -> None:
    with cable_server("--broadcast_adapter=http", "--sse", command=OBSERVED) as server:
        body = json.dumps({"command": "subscribe", "identifier": NEWS}).encode()
        url = f"http://127.0.0.1:{server.port}/events"
        with urllib.request.urlopen(url, body, timeout=30) as events:
            assert events.readline()
            server.wait_for_output("The observer failed in Printing.received")


def test_code_workers_say_that_the_observer_is_not_called() -> None:
    with cable_server("--broadcast_adapter=http", "--app_workers=1", command=OBSERVED) as server:
        server.wait_for_output("observer of tests.server.observed:cable is not called")
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
        assert server.stop() == 0
        assert events(server.output()) == []
