"""The application that benchmarks of cable servers speak with, and one action that forgets."""

from typing import Any

from catenary import Cable, Channel, Connection, action


class Anybody(Connection):
    async def connect(self) -> None:
        """Lets everybody in."""


class BenchmarkChannel(Channel[Anybody]):
    async def subscribed(self) -> None:
        """Needs no stream: it answers."""

    @action
    async def echo(self, **said: Any) -> None:
        self.transmit(said)

    @action
    async def forget(self, **said: Any) -> None:
        """Says nothing."""


cable = Cable(connection=Anybody, channels=[BenchmarkChannel])
