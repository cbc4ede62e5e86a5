"""Answers that are sent in slices, a large message in fragments, as ``@anycable/core`` reads them."""

import json
from contextlib import ExitStack

import pytest

from tests.clients.test_recovery import FLAGS, Publisher, client_by, listen
from tests.parts.cable_client import CableClient
from tests.parts.server import cable_server
from tests.parts.tcp_relay import tcp_relay

EXTENDED = ("actioncable-v1-ext-json",)
MEMBERS = 12
MESSAGES = 25


def member(url: str, name: str, number: int) -> CableClient:
    """Somebody who is present, of whom much is told."""
    client = CableClient(url, subprotocols=EXTENDED)
    stream = json.dumps({"channel": "$pubsub", "stream_name": name})
    client.send(command="subscribe", identifier=stream)
    info = {"of": "é" * 10_000}
    client.send(command="join", identifier=stream, presence={"id": f"m{number}", "info": info})
    return client


@pytest.mark.parametrize("flags", [(), ("--enable_ws_compression",)], ids=["plain", "compressed"])
def test_large_answers_arrive_whole_and_in_order(flags: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(cable_server(*FLAGS, *flags))
        relay = stack.enter_context(tcp_relay(server.port))
        publisher = Publisher(server)
        stack.callback(publisher.close)
        client = stack.enter_context(client_by(relay))
        listen(client, "room")
        for number in range(MEMBERS):
            stack.enter_context(member(server.cable_url, "room", number))
            client.wait_for("presence", type="join", id=f"m{number}")
        client.do("who", name="room")
        here = client.wait_for("here", name="room", timeout_s=20)["ids"]
        assert here == [f"m{number}" for number in range(MEMBERS)]
        listen(client, "news")
        relay.cut(half_open=True)
        for number in range(MESSAGES):
            publisher.publish("news", [number, "x" * 40_000])
        client.wait_for("info", name="news", type="history_received", timeout_s=20)
        publisher.publish("news", "last")
        client.wait_for("received", message="last", timeout_s=20)
        heard = [told["message"][0] for told in client.told("received") if told["name"] == "news"]
        assert heard == [*range(MESSAGES), "l"]
