"""Two subscriptions with one identifier, and subscribe commands that clients repeat while they wait."""

from pathlib import Path

import pytest

from tests.clients.conftest import PING_INTERVAL_S, NewClient
from tests.clients.test_clients import broadcast
from tests.parts.server import OURS, cable_server

APPLICATION = """
import asyncio

from catenary import Cable, Channel, action


class SlowChannel(Channel):
    async def subscribed(self):
        print("asked", flush=True)
        await asyncio.sleep(%f)
        self.stream_for("news")

    @action
    async def say(self, text: str):
        self.transmit(text)


cable = Cable(channels=[SlowChannel])
"""
REPEATS_S = 5.0
"""After so long ``@anycable/core`` repeats a command that was not answered; the other one after 0.5 s."""


@pytest.mark.parametrize("slow_s", [0, REPEATS_S + 0.5], ids=["at once", "slowly"])
def test_both_hear_everything_and_the_application_is_asked_once(
    tmp_path: Path, new_client: NewClient, slow_s: float
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION % slow_s)
    flags = ("--broadcast_adapter=http", f"--ping_interval={PING_INTERVAL_S}")
    with (
        cable_server(*flags, command=(*OURS, "app:cable"), directory=tmp_path) as server,
        new_client(server.cable_url) as client,
    ):
        for name in ("first", "second"):
            client.do("subscribe", name=name, channel="SlowChannel", params={})
            if name == "first":
                client.wait_for("subscribed", name=name)
            client.do("perform", name=name, action="say", payload={"text": name})
            client.wait_for("received", message=name)
        client.wait_for("received", message="second")
        broadcast(server, "SlowChannel:news", "published")
        for _ in range(2):
            client.wait_for("received", message="published")
        # @rails/actioncable asks for its second object, too; @anycable/core has one subscription for both.
        seconds = [each for each in client.told("subscribed") if each["name"] == "second"]
        types = [each.get("type") for each in client.frames()]
        assert types.count("confirm_subscription") == 1 + len(seconds)
        assert client.told("lost") == []
        assert server.output().count("asked") == 1
        assert " WARNING " not in server.output()
