"""A pool of code workers without a server: real processes, and a node of which only the ports exist."""

import asyncio
import select
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from catenary.codeworkers.pool import CodeWorkerPool
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.node.reads import Reads

PATIENCE_S = 60
"""For events that must happen. Interpreters start meanwhile, on machines with other work."""

APPLICATION = """
import asyncio, os
from pathlib import Path

from catenary import Cable, Channel, Connection, action


def note(*words):
    with open("done", "a") as done:
        done.write(" ".join(words) + "\\n")


class User(Connection):
    async def connect(self):
        note("connected")

    async def disconnect(self):
        note("disconnected")


class RoomChannel(Channel[User]):
    id: int

    async def subscribed(self):
        note("came")

    async def unsubscribed(self):
        note("left")
        while Path("busy").exists():
            await asyncio.sleep(0.01)

    @action
    async def wait_for(self, file: str):
        note("waiting")
        while not Path(file).exists():
            await asyncio.sleep(0.01)

    @action
    async def once(self):
        note("once")

    @action
    async def publish(self):
        try:
            await cable.broadcast("s", 1)
        except Exception as error:
            self.transmit(f"{type(error).__name__}: {error}")
        else:
            self.transmit("accepted")

    @action
    async def flood(self, number: int):
        def later():
            for each in range(number):
                cable.broadcast("s", "x" * 1000)
        asyncio.get_running_loop().call_soon(later)

    @action
    async def fork_and_die(self):
        if os.fork():
            os._exit(3)
        Path("forked").write_text(str(os.getpid()))
        os.read(os.pipe()[0], 1)


cable = Cable(connection=User, channels=[RoomChannel])
"""
ROOM = Identifier('{"channel":"RoomChannel","id":1}')


class RecordingHost:
    """Keeps publications; ``answer`` makes the result of the next ones."""

    def __init__(self) -> None:
        self.publications: list[bytes] = []
        self.answer: Callable[[], Awaitable[None] | None] = lambda: None

    def publish(self, raw: bytes, *, trace: str = "") -> Awaitable[None] | None:
        self.publications.append(raw)
        return self.answer()

    def perform(self, sid: Sid, identifier: Identifier, data: str, /) -> bool:
        return False


class DirectPool:
    """A pool whose calls the test makes itself. The application is app.py of ``directory``."""

    def __init__(self, directory: Path, queue_timeout_s: float) -> None:
        self.directory = directory
        self.write_code(APPLICATION)
        self.host = RecordingHost()
        self.counters = Counters()
        self.pool = CodeWorkerPool(
            (sys.executable, "-m", "catenary.server.code_worker", "app:cable", "info", "text"),
            number=1,
            queue_timeout_s=queue_timeout_s,
            end_s=5,
            counters=self.counters,
        )

    def write_code(self, code: str) -> None:
        """Replaces the module of the application."""
        (self.directory / "app.py").write_text(code)

    def done(self) -> list[str]:
        """Lines that the application has written to its file."""
        path = self.directory / "done"
        return path.read_text().splitlines() if path.exists() else []

    async def until_done(self, *expected: str) -> None:
        """Waits until the application has noted exactly this."""
        await until(lambda: self.done() == list(expected))

    def block_until_answered(self) -> None:
        """Blocks until the worker has sent something, which is not read yet."""
        (worker,) = self.pool._generations._workers
        transport = worker.link.ipc._transport
        assert transport is not None
        assert select.select([transport.get_extra_info("socket")], [], [], PATIENCE_S)[0]

    def perform(self, action: str, arguments: str = "") -> Awaitable[Any]:
        """Calls an action of RoomChannel."""
        return self.pool.perform(client(), ROOM, f'{{"action":"{action}"{arguments}}}')


def client() -> Environment:
    """The only client."""
    return Environment(Sid("s1"), "ws://x/", {})


async def until(predicate: Callable[[], bool]) -> None:
    """Waits for something that another process does."""
    async with asyncio.timeout(PATIENCE_S):
        while not predicate():  # noqa: ASYNC110  (it is another process)
            await asyncio.sleep(0.01)


def run(
    scenario: Callable[[DirectPool], Coroutine[None, None, None]], queue_timeout_s: float = 0
) -> None:
    """Runs a scenario with a pool in the current directory. No call may be left at its end."""

    async def whole() -> None:
        direct = DirectPool(Path.cwd(), queue_timeout_s)
        await direct.pool.start(direct.host, direct.host, Reads(None, None))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(direct)
        finally:
            await direct.pool.close(5)
        assert direct.counters.app_calls_num == 0
        assert direct.counters.rpc_pending_num == 0

    asyncio.run(whole())
