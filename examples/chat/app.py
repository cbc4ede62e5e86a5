"""A chat room: an application behind RPC.

The server holds the WebSockets of the browsers. It asks this application which clients may connect, to
which streams they subscribe and what their actions do. Messages are published to Redis; the server
receives them there and sends them to everyone in the room.
"""

import os

from catenary import Cable, Channel, Connection, action
from catenary.channels.publishers import publisher


class Visitor(Connection):
    identified_by = ("user",)
    user: str

    async def connect(self) -> None:
        """Accepts every client that has a name, as in ``/cable?name=Ann``."""
        self.user = self.request.params.get("name", "")
        if not self.user:
            self.reject_unauthorized_connection()

    async def disconnect(self) -> None:
        """Prints who left."""
        print(f"gone: {self.user}", flush=True)


class ChatChannel(Channel[Visitor]):
    room: str

    async def subscribed(self) -> None:
        self.stream_from(f"chat_{self.room}")

    @action
    async def speak(self, text: str) -> None:
        await cable.broadcast(f"chat_{self.room}", {"user": self.connection.user, "text": text})
        self.transmit({"sent": text})


redis = publisher(os.environ.get("REDIS_URL", "redis://localhost:6379"))
cable = Cable(connection=Visitor, channels=[ChatChannel], publisher=redis)
