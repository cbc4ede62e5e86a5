"""An application in Python that does a little of everything: rooms with words."""

import asyncio

from catenary import Cable, Channel, Connection, action


class Person(Connection):
    identified_by = ("name",)
    name: str
    said: int = Connection.state(0)

    async def connect(self) -> None:
        self.name = self.request.params["name"]

    async def disconnect(self) -> None:
        self.said = 0


class Room(Channel[Person]):
    name: str
    words: list[str] = Channel.state(default_factory=list[str])

    async def subscribed(self) -> None:
        self.stream_for(self.name)
        self.join_presence(id=self.connection.name, info={"room": self.name})

    async def unsubscribed(self) -> None:
        self.words.clear()

    @action
    async def at_once(self, word: str) -> None:
        self._add(word)

    @action
    async def awaiting(self, word: str) -> None:
        await asyncio.sleep(0)
        self._add(word)

    @action
    def in_a_thread(self, word: str) -> None:
        self._add(word)

    def _add(self, word: str) -> None:
        self.words.append(word)
        self.connection.said += 1
        self.broadcast_to(self.name, {"words": self.words})


cable = Cable(connection=Person, channels=[Room])
