"""Pusher's protocol for tests: an app, a reader, signatures of the application, and a client over a real WebSocket."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from websockets.sync.client import ClientConnection, connect

from catenary.auth.pusher import PusherSignatures
from catenary.config.pusher_apps import PusherApp
from catenary.metrics.counters import Counters
from catenary.protocols.pusher import PusherCodec
from catenary.protocols.pusher_reader import PusherRules
from catenary.protocols.table import ClientProtocol

APP: Final = PusherApp(id="app", key="key", secret="secret", stream_prefix="")
SIGNATURES: Final = PusherSignatures(APP.key, APP.secret)
FLAGS: Final = ("--pusher_app_id=app", "--pusher_app_key=key", "--pusher_secret=secret")

Event = dict[str, Any]


def pusher_protocol(
    app: PusherApp = APP,
    now: Callable[[], float] = lambda: 1.0,
    counters: Counters | None = None,
) -> ClientProtocol:
    """The protocol of an app's clients, as the server builds it."""
    codec = PusherCodec(30)
    rules = PusherRules(app, counters or Counters(), now)
    return ClientProtocol(name="test", subprotocols=(), codec=lambda: codec, reader=rules.reader)


def subscription(socket_id: str, channel: str, member: object = None) -> str:
    """A signed ``pusher:subscribe``; with a ``member``, for a presence channel."""
    data: dict[str, str] = {"channel": channel}
    if member is not None:
        data["channel_data"] = json.dumps(member)
    if channel.startswith(("private-", "presence-")):
        data["auth"] = SIGNATURES.subscription(socket_id, channel, data.get("channel_data"))
    return json.dumps({"event": "pusher:subscribe", "data": data})


def signin(socket_id: str, user: object) -> str:
    """A signed ``pusher:signin``."""
    user_data = json.dumps(user)
    auth = SIGNATURES.user(socket_id, user_data)
    return json.dumps({"event": "pusher:signin", "data": {"auth": auth, "user_data": user_data}})


class PusherClient:
    """A client that shows every message of the server; ``data`` is read where it is JSON."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self.socket_id = ""

    def receive(self, timeout_s: float = 10) -> Event:
        """The next message of the server, without pings."""
        while True:
            event: Event = json.loads(self._websocket.recv(timeout_s))
            if isinstance(event.get("data"), str):
                try:
                    event["data"] = json.loads(event["data"])
                except ValueError:
                    pass
            if event["event"] != "pusher:ping":
                return event

    def send(self, text: str) -> None:
        self._websocket.send(text)

    def subscribe(self, channel: str, member: object = None) -> Event:
        """Subscribes; returns the data of the confirmation."""
        self.send(subscription(self.socket_id, channel, member))
        confirmed = self.receive()
        assert confirmed["event"] == "pusher_internal:subscription_succeeded", confirmed
        assert confirmed["channel"] == channel
        data: Event = confirmed["data"]
        return data

    def close(self) -> None:
        self._websocket.close()


@contextmanager
def pusher_client(
    port: int, key: str = APP.key, query: str = "protocol=7"
) -> Iterator[PusherClient]:
    """A connected client for the length of a with block."""
    with connect(f"ws://127.0.0.1:{port}/app/{key}?{query}") as websocket:
        client = PusherClient(websocket)
        established = client.receive()
        assert established["event"] == "pusher:connection_established"
        client.socket_id = established["data"]["socket_id"]
        yield client
