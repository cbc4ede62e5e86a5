"""npm's server library for Pusher, as a process that a test calls."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.parts.node import NodeClient
from tests.parts.webhook_receiver import Webhook

App = dict[str, Any]


class PusherServer:
    """Calls of the library, each with its status and the body of the response."""

    def __init__(self, apps: dict[str, App]) -> None:
        self._client = NodeClient("pusher_server.mjs", {"apps": apps})
        self._ids = itertools.count()

    def call(self, method: str, *args: object, app: str = "main") -> tuple[int, Any]:
        number = next(self._ids)
        self._client.do("call", id=number, app=app, method=method, args=args)
        answer = self._client.wait_for("answer", id=number)
        return answer["status"], answer["body"]

    def get(self, path: str, app: str = "main", **params: object) -> tuple[int, Any]:
        return self.call("get", {"path": path, "params": params}, app=app)

    def post(self, path: str, body: object, app: str = "main") -> tuple[int, Any]:
        return self.call("post", {"path": path, "body": body}, app=app)

    def set_clock(self, seconds: int) -> None:
        """Signs later calls with a clock that is so many seconds ahead."""
        self._client.do("clock", seconds=seconds)

    def verify(self, webhook: Webhook, app: str = "main") -> dict[str, Any]:
        """Reads a webhook: whether it is ``valid``, its ``events`` and its ``time`` in ms."""
        number = next(self._ids)
        self._client.do(
            "webhook", id=number, app=app, headers=webhook.headers, body=webhook.body.decode()
        )
        return self._client.wait_for("webhook", id=number)

    def stop(self) -> None:
        self._client.stop()


@contextmanager
def pusher_server(**apps: App) -> Iterator[PusherServer]:
    """The library for the length of a with block, with the credentials and ports of some apps."""
    server = PusherServer(apps)
    try:
        yield server
    finally:
        server.stop()
