"""Calls of code workers at the moments that matter: clients that leave, workers that are full.

The processes are real; the node is replaced by one that takes publications or does not.
"""

import asyncio
import os
import select
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from catenary.codeworkers import pool
from catenary.codeworkers.link import WorkerCall
from catenary.codeworkers.pool import CodeWorkerPool
from catenary.errors import AppFailed, AppUnavailable, BackendError, PublicationError, TooLarge
from catenary.messages.decisions import Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.replies import Delivery
from catenary.metrics.counters import Counters
from catenary.node.reads import Reads

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
    async def tell(self):
        try:
            await cable.broadcast("s", 1)
        except Exception as error:
            self.transmit(f"{type(error).__name__}: {error}")
        else:
            self.transmit("taken")

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


class Host:
    """Takes publications in the way that is wanted."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.answer: Callable[[], Awaitable[None] | None] = lambda: None

    def publish(self, raw: bytes, /) -> Awaitable[None] | None:
        self.taken.append(raw)
        return self.answer()

    def perform(self, sid: Sid, identifier: Identifier, data: str, /) -> bool:
        return False


class World:
    """Code workers in a directory."""

    def __init__(self, directory: Path, patience_s: float) -> None:
        self.directory = directory
        self.host = Host()
        self.counters = Counters()
        self.workers = CodeWorkerPool(
            (sys.executable, "-m", "catenary.server.code_worker", "app:cable", "info", "text"),
            number=1,
            patience_s=patience_s,
            end_s=5,
            counters=self.counters,
        )

    def done(self) -> list[str]:
        path = self.directory / "done"
        return path.read_text().splitlines() if path.exists() else []

    async def until(self, *expected: str) -> None:
        """Returns once exactly this has been done; it may have been done before."""
        async with asyncio.timeout(5):
            while self.done() != list(expected):  # noqa: ASYNC110  (it is another process)
                await asyncio.sleep(0.01)

    def block_until_answered(self) -> None:
        """Until an answer stands in the socket; it is not read meanwhile."""
        (worker,) = self.workers._workers
        transport = worker.line.wire._transport
        assert transport is not None
        assert select.select([transport.get_extra_info("socket")], [], [], 5)[0]

    def perform(self, action: str, arguments: str = "") -> Awaitable[Any]:
        return self.workers.perform(client(), ROOM, f'{{"action":"{action}"{arguments}}}')


def client() -> Environment:
    return Environment(Sid("s1"), "ws://x/", {})


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(scenario: Callable[[World], Coroutine[None, None, None]], patience_s: float = 5) -> None:
    async def whole() -> None:
        world = World(Path.cwd(), patience_s)
        await world.workers.start(world.host, Reads(None, None))
        try:
            async with asyncio.timeout(15):
                await scenario(world)
        finally:
            await world.workers.close(5)
        assert world.counters.app_calls_num == 0
        assert world.counters.rpc_pending_num == 0

    asyncio.run(whole())


def test_who_is_let_in_as_it_leaves_is_ended() -> None:
    """The subscription was confirmed and nobody is there to know it."""

    async def scenario(world: World) -> None:
        asked = world.workers.subscribe(client(), ROOM)
        assert isinstance(asked, WorkerCall)
        await asyncio.sleep(0)  # it is sent
        world.block_until_answered()
        asked.cancel()
        assert (await asked).verdict is Verdict.SUCCESS
        await world.until("came", "left")

    run(scenario)


def test_who_is_connected_as_it_leaves_is_known_to_be() -> None:
    async def scenario(world: World) -> None:
        asking = asyncio.ensure_future(_awaited(world.workers.connect(client())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        world.block_until_answered()
        asking.cancel()
        assert (await asking).verdict is Verdict.SUCCESS

    run(scenario)


def test_the_end_of_a_subscription_is_told_once_by_whichever_call() -> None:
    async def scenario(world: World) -> None:
        (world.directory / "busy").touch()
        asking = asyncio.ensure_future(_awaited(world.workers.unsubscribe(client(), ROOM)))
        await world.until("left")
        asking.cancel()
        ending = asyncio.ensure_future(world.workers.disconnect(client(), (ROOM,)))
        (world.directory / "busy").unlink()
        await ending
        assert world.done() == ["left", "disconnected"]
        # Who subscribes anew is told of anew.
        await world.workers.subscribe(client(), ROOM)
        await world.workers.disconnect(client(), (ROOM,))
        assert world.done() == ["left", "disconnected", "came", "left", "disconnected"]

    run(scenario)


def test_calls_beyond_the_limit_wait_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CALLS_LIMIT", 1)

    async def scenario(world: World) -> None:
        first = world.perform("wait_for", ',"file":"go"')
        dropped, second = world.perform("tell"), world.perform("once")
        assert world.counters.rpc_pending_num == 2
        assert isinstance(dropped, WorkerCall)
        assert dropped.cancel()
        assert dropped.cancelled()
        assert world.counters.rpc_pending_num == 1
        await world.until("waiting")
        (world.directory / "go").touch()
        await first
        await second
        assert world.done() == ["waiting", "once"]
        assert world.host.taken == []

    run(scenario)


def test_calls_wait_for_their_time_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CALLS_LIMIT", 1)

    async def scenario(world: World) -> None:
        first = world.perform("wait_for", ',"file":"go"')
        late = [world.perform("once") for _ in range(2)]
        for each in late:
            with pytest.raises(AppUnavailable, match="no code worker was free in time"):
                await each
        assert world.counters.rpc_timeout_total == 2
        (world.directory / "go").touch()
        await first
        await world.perform("once")
        assert world.done() == ["waiting", "once"]

    run(scenario, patience_s=0.2)


async def refuses() -> None:
    raise BackendError("Redis is away")


async def refuses_for_good() -> None:
    raise TooLarge("over max_payload")


def is_none() -> None:
    raise PublicationError("expected a stream")


async def takes() -> None:
    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: None, '"taken"'),
        (takes, '"taken"'),
        (refuses, '"BackendError: Redis is away"'),
        (refuses_for_good, '"TooLarge: over max_payload"'),
        (is_none, '"BackendRefused: expected a stream"'),
    ],
)
def test_who_awaits_a_publication_learns_whether_it_was_taken(
    answer: Callable[[], Awaitable[None] | None], told: str
) -> None:
    async def scenario(world: World) -> None:
        world.host.answer = answer
        decision = await world.perform("tell")
        assert decision.replies == (Delivery(ROOM, told.encode()),)
        assert world.host.taken == [b'{"stream":"s","data":"1"}']

    run(scenario)


def test_text_that_is_no_unicode_fails_its_own_call() -> None:
    async def scenario(world: World) -> None:
        bad = world.workers.perform(client(), ROOM, "\ud800")
        good = world.perform("once")
        with pytest.raises(AppFailed, match="expected Unicode text"):
            await bad
        await good

    run(scenario)


def test_a_death_is_seen_although_a_fork_holds_the_socket() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(AppUnavailable, match="has died"):
            await world.perform("fork_and_die")
        await world.perform("once")
        assert world.counters.app_worker_deaths_total == 1
        os.kill(int((world.directory / "forked").read_text()), 9)

    run(scenario)


def test_what_is_published_last_arrives_whole() -> None:
    """More than a socket holds, by somebody whom nobody waits for."""

    async def scenario(world: World) -> None:
        await world.perform("flood", ',"number":3000')
        await world.workers.close(5)
        assert len(world.host.taken) == 3000

    run(scenario)


def test_code_that_is_never_loaded_is_given_up(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World) -> None:
        monkeypatch.setattr(pool, "START_S", 0.3)
        (directory / "app.py").write_text("import time\nwhile True:\n    time.sleep(1)\n")
        world.workers.reload()
        assert world.workers._reloading is not None
        await world.workers._reloading
        assert world.counters.app_failed_reloads_total == 1
        await world.perform("once")

    run(scenario)


def test_nothing_is_taken_on_behind_the_end() -> None:
    async def scenario(world: World) -> None:
        await world.workers.close(5)
        with pytest.raises(AppUnavailable, match="shutting down"):
            world.perform("once")
        world.workers.reload()

    run(scenario)


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work
