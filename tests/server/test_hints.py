"""Warnings, once each, about options and calls that have no effect without a broker."""

import json

from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.server import OURS, CableServer, cable_server

EXTENDED = ("actioncable-v1-ext-json",)
STREAM = json.dumps({"channel": "$pubsub", "stream_name": "s"})


def hints(server: CableServer) -> list[str]:
    """The warnings about what needs another flag."""
    return [line for line in server.output().splitlines() if "--presets=broker" in line]


def test_an_application_that_lets_clients_join() -> None:
    room = identifier("RoomChannel", id=1)
    command = (*OURS, "tests.channels.reading_app:cable")
    for flags in ((), ("--app_workers=1",)):
        with cable_server(*flags, command=command) as server:
            for _ in range(3):
                with CableClient(server.cable_url) as client:
                    client.receive_welcome()
                    assert client.subscribe(room) == confirmed(room)
                    client.expect_nothing()
            (line,) = hints(server)
            assert "WARNING node: Presence was asked for" in line


def test_clients_that_ask_for_history() -> None:
    with cable_server("--public", "--norpc") as server:
        for _ in range(3):
            with CableClient(server.cable_url, subprotocols=EXTENDED) as client:
                client.receive_welcome()
                assert client.subscribe(STREAM) == confirmed(STREAM)
                client.send("history", identifier=STREAM, history={"since": 1})
                assert client.receive()["type"] == "reject_history"
        (line,) = hints(server)
        assert "WARNING node: A client asked for history" in line


def test_options_without_a_broker() -> None:
    with cable_server("--public", "--norpc", "--history_limit=1000") as server:
        (line,) = hints(server)
        assert "--history_limit has no effect" in line


def test_with_a_broker_nothing_is_said() -> None:
    flags = ("--public", "--norpc", "--presets=broker", "--history_limit=1000")
    with cable_server(*flags) as server:
        with CableClient(server.cable_url, subprotocols=EXTENDED) as client:
            client.receive_welcome()
            assert client.subscribe(STREAM) == confirmed(STREAM)
            client.send("history", identifier=STREAM, history={"since": 1})
            assert client.receive()["type"] == "confirm_history"
        assert hints(server) == []
