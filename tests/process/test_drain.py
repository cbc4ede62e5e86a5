"""Who is told when; from outside: test_process.py."""

import asyncio
from typing import cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from catenary.edge.connection import ClientConnection, Stage
from catenary.process.drain import QUICK, SLOW, DrainRate, drain
from catenary.process.listener import Listener
from tests.parts.heart import in_loop


class Noting:
    """A stage that notes when it was told to end."""

    def __init__(self, *, is_client: bool = True) -> None:
        self.is_client = is_client
        self.told_at: float | None = None

    def begin(self, rest: bytes) -> None: ...
    def receive(self, data: bytes) -> None: ...
    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self, exc: Exception | None) -> None: ...
    def shutdown(self) -> None:
        self.told_at = asyncio.get_running_loop().time()


def connected(stage: Stage) -> ClientConnection:
    state = ServerState()
    return ClientConnection(
        lambda _connection, _host: stage, config=Config("none"), server_state=state, app_state={}
    )


class State:
    """uvicorn's, as much as is asked of it."""

    def __init__(self, connections: set[object]) -> None:
        self.connections = connections


class Port:
    """A listener in memory."""

    def __init__(self, *stages: Noting) -> None:
        self.server_state = State({connected(stage) for stage in stages})
        self.is_open = True

    def stop_accepting(self) -> None:
        self.is_open = False


async def drained(*ports: Port, timeout_s: float, rate: DrainRate = SLOW) -> float:
    """How long it took."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await drain([cast("Listener", port) for port in ports], timeout_s, rate)
    return clock() - began


@in_loop
async def test_clients_are_told_evenly_over_a_part_of_the_time() -> None:
    clients = [Noting() for _ in range(20)]
    took = await drained(Port(*clients), timeout_s=1)
    told_at = sorted(each.told_at for each in clients if each.told_at is not None)
    assert len(told_at) == 20
    assert 0.75 < took < 1.5
    # Nobody is told before the moment that is theirs, however late those before were told.
    assert all(at - told_at[0] > number * 0.04 - 0.005 for number, at in enumerate(told_at))
    assert told_at[-1] - told_at[0] > 0.7


@in_loop
async def test_a_few_do_not_wait_as_long_as_many() -> None:
    assert await drained(Port(Noting(), Noting()), timeout_s=30) < 5


@in_loop
async def test_even_where_nobody_asked_for_it_a_crowd_is_not_told_in_one_moment() -> None:
    clients = [Noting() for _ in range(1000)]
    took = await drained(Port(*clients), timeout_s=30, rate=QUICK)
    told_at = sorted(each.told_at for each in clients if each.told_at is not None)
    assert len(told_at) == 1000
    assert 0.15 < told_at[-1] - told_at[0] <= took < 2
    assert await drained(Port(*clients[:10]), timeout_s=30, rate=QUICK) < 1


@in_loop
async def test_who_has_left_meanwhile_is_not_told() -> None:
    clients = [Noting() for _ in range(10)]
    port = Port(*clients)
    under_way = asyncio.ensure_future(drained(port, timeout_s=0.5))
    await asyncio.sleep(0)
    assert sum(each.told_at is not None for each in clients) == 1
    port.server_state.connections.clear()
    await under_way
    assert sum(each.told_at is not None for each in clients) == 1


@in_loop
async def test_where_there_are_no_clients_everything_goes_on() -> None:
    others = Port(other := Noting(is_client=False))
    cables = Port(client := Noting(), Noting(is_client=False))
    await drained(others, cables, timeout_s=0.1)
    assert client.told_at is not None
    assert other.told_at is None
    assert others.is_open
    assert not cables.is_open


@in_loop
async def test_nobody_is_waited_for_where_nobody_is() -> None:
    assert await drained(Port(), timeout_s=30) < 1
