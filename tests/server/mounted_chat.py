"""A cable that tells what it knows of its clients, for the tests of mounting."""

import asyncio
from typing import Any

from catenary import Cable, Channel, Connection, action


class Client(Connection):
    identified_by = ("name",)
    name: str

    def connect(self) -> None:
        self.name = self.request.params.get("name", "nobody")


class MirrorChannel(Channel[Client]):
    """Transmits what the connection knows of its request."""

    async def subscribed(self) -> None:
        self.stream_from("news")

    @action
    async def look(self) -> None:
        request = self.connection.request
        self.transmit(
            {
                "url": request.url,
                "cookie": request.cookies.get("a"),
                "token": request.headers.get("x-token"),
                "hidden": request.headers.get("x-hidden"),
                "remote_addr": request.remote_addr,
                "session": request.scope.get("session"),
                "state": sorted(request.state),
                "asgi": "asgi" in request.scope,
            }
        )

    @action
    async def wait(self, s: float) -> None:
        await asyncio.sleep(s)
        self.transmit("waited")

    @action
    async def say(self, text: str) -> None:
        self.transmit(text)


def mirror(**settings: Any) -> Cable:
    """A new cable with the same classes."""
    return Cable(connection=Client, channels=[MirrorChannel], **settings)
