"""An application that reads from its own server: in the event loop, and in a thread."""

import asyncio
from typing import Any

from catenary import Cable, Channel, action


class RoomChannel(Channel):
    id: int

    async def subscribed(self) -> None:
        self.stream_for(self.id)
        self.join_presence(id="ann", info={"name": "Ann"})

    @action
    async def read(self) -> None:
        self.transmit(await read(self.broadcasting_for(self.id)))

    @action
    def read_in_a_thread(self) -> None:
        self.transmit(asyncio.run(read(self.broadcasting_for(self.id))))


async def read(stream: str) -> list[Any]:
    members = await cable.presence(stream)
    return [
        [[each.id, each.info] for each in members],
        [each.data async for each in cable.history(stream, limit=2)],
    ]


cable = Cable(channels=[RoomChannel])
