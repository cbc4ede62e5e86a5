"""A chat room: the application behind the cable, and behind RPC.

The server holds the sockets of the browsers and asks this application who may enter, what they
listen to and what their actions do. What somebody says is published to Redis; the server hears it
there and tells everybody in the room.
"""

import os

from catenary import Cable, Channel, Connection, action
from catenary.channels.publishers import publisher


class Visitor(Connection):
    identified_by = ("user",)
    user: str

    async def connect(self) -> None:
        """Lets everybody in who has a name, as in ``/cable?name=Ann``."""
        self.user = self.request.params.get("name", "")
        if not self.user:
            self.reject_unauthorized_connection()

    async def disconnect(self) -> None:
        """Says who left; nothing else depends on it."""
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
