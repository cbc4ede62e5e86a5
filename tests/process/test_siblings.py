"""Workers that ask each other over Unix sockets."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from catenary.process import siblings
from catenary.process.siblings import Siblings
from tests.parts.heart import in_loop

LARGE = b"x" * 1_000_000


@pytest.fixture
def directory() -> Iterator[str]:
    """Short enough for the path of a socket."""
    with tempfile.TemporaryDirectory() as path:
        yield path


@asynccontextmanager
async def worker(directory: str, number: int, answer: bytes) -> AsyncIterator[Siblings]:
    """One of two workers."""
    sibling = Siblings(directory, number, 2, lambda: answer)
    await sibling.start()
    try:
        yield sibling
    finally:
        await sibling.close(1)


def test_each_worker_gets_the_answers_of_all(directory: str) -> None:
    @in_loop
    async def scenario() -> None:
        async with worker(directory, 1, b"one") as one, worker(directory, 2, LARGE) as two:
            expected = {1: b"one", 2: LARGE}
            assert await one.ask() == expected
            assert await two.ask() == expected

    scenario()


def test_a_worker_that_has_ended_has_no_answer_until_it_is_replaced(directory: str) -> None:
    @in_loop
    async def scenario() -> None:
        async with worker(directory, 1, b"one") as one:
            assert await one.ask() == {1: b"one", 2: None}
            async with worker(directory, 2, b"two"):
                assert await one.ask() == {1: b"one", 2: b"two"}
            assert await one.ask() == {1: b"one", 2: None}
            # One that was killed leaves its socket.
            async with AsyncExitStack() as killed:
                await killed.enter_async_context(worker(directory, 2, b"two"))
                async with worker(directory, 2, b"replaced"):
                    assert await one.ask() == {1: b"one", 2: b"replaced"}

    scenario()


def test_a_worker_that_hangs_is_not_waited_for(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings, "ANSWER_S", 0.05)

    @in_loop
    async def scenario() -> None:
        connected: list[asyncio.StreamWriter] = []
        path = Path(directory) / "2.sock"
        hanging = await asyncio.start_unix_server(lambda _, writer: connected.append(writer), path)
        async with worker(directory, 1, b"one") as one:
            assert await one.ask() == {1: b"one", 2: None}
        assert len(connected) == 1
        connected[0].close()
        hanging.close()

    scenario()


@pytest.mark.parametrize(
    ("where", "line"),
    [("", ""), ("/nonexistent", "The other workers can't read the metrics of this one: ")],
)
def test_without_a_directory_a_worker_has_its_own_answer(
    where: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    @in_loop
    async def scenario() -> None:
        async with worker(where, 1, b"one") as one:
            assert await one.ask() == {1: b"one", 2: None}

    scenario()
    assert "".join(each.getMessage() for each in caplog.records).startswith(line)


def test_the_last_worker_removes_the_directory_of_a_parent_that_has_died(directory: str) -> None:
    left = Path(directory) / "left"
    left.mkdir()

    @in_loop
    async def scenario() -> None:
        async with worker(str(left), 1, b"one"):
            async with worker(str(left), 2, b"two"):
                pass
            assert left.exists()
        assert not left.exists()

    scenario()
