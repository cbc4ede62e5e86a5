"""Publications of one source are published one after the other, whatever the outcome of each."""

import asyncio
from collections.abc import Awaitable

import pytest

from catenary.adapters.ordered_intake import OrderedIntake
from catenary.errors import PublicationError
from catenary.metrics.counters import Counters
from tests.parts.heart import in_loop, settle
from tests.parts.redis_node import until


class Publisher:
    """Each publication is done with when the test says so."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.is_read = True
        self.begun: dict[bytes, asyncio.Future[None]] = {}
        self.intake = OrderedIntake(
            self._publish,
            self.counters,
            pause=lambda: self._read(False),
            resume=lambda: self._read(True),
        )

    def _read(self, is_read: bool) -> None:
        self.is_read = is_read

    def _publish(self, raw: bytes) -> Awaitable[None] | None:
        self.begun[raw] = asyncio.get_running_loop().create_future()
        return self.begun[raw]


@in_loop
async def test_a_cancelled_publication_does_not_stop_reading() -> None:
    one = Publisher()
    one.intake.add(b"1")
    one.intake.add(b"2")
    await settle()
    one.begun[b"1"].cancel()
    await settle()
    assert list(one.begun) == [b"1", b"2"]
    assert one.counters.lost_publications_total == 1
    one.begun[b"2"].set_result(None)
    await settle()
    assert one.is_read


@in_loop
async def test_a_worker_that_is_cancelled_by_mistake_is_followed_by_another() -> None:
    one = Publisher()
    one.intake.add(b"1")
    one.intake.add(b"2")
    worker = one.intake._worker
    assert worker is not None
    # Before its first step: nothing in it can catch that.
    worker.cancel()
    one.begun[b"1"].set_result(None)
    await until(lambda: len(one.begun) == 2)
    assert list(one.begun) == [b"1", b"2"]
    assert one.counters.lost_publications_total == 0
    one.begun[b"2"].set_result(None)
    await one.intake.finish()
    assert one.is_read
    one.intake.add(b"3")
    one.begun[b"3"].set_result(None)
    await one.intake.finish()
    assert list(one.begun) == [b"1", b"2", b"3"]


@in_loop
async def test_a_publication_that_a_cancelled_worker_has_not_awaited_is_published() -> None:
    """A coroutine does nothing before it is awaited."""
    done: list[bytes] = []

    async def publish(raw: bytes) -> None:
        done.append(raw)

    intake = OrderedIntake(publish, Counters(), pause=lambda: None, resume=lambda: None)
    intake.add(b"1")
    intake.add(b"2")
    assert intake._worker is not None
    intake._worker.cancel()
    await intake.finish()
    assert done == [b"1", b"2"]


@pytest.mark.parametrize("turns", [0, 5])
@in_loop
async def test_giving_up_drops_what_is_left(turns: int) -> None:
    one = Publisher()
    one.intake.add(b"1")
    one.intake.add(b"2")
    await settle(turns)
    assert await one.intake.give_up() == 2
    await settle()
    assert list(one.begun) == [b"1"]
    assert not one.is_read


@in_loop
async def test_a_publication_that_is_refused_while_it_is_read_is_not_counted_as_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The node has counted it, as it does where it refuses a short one at once."""
    one = Publisher()
    one.intake.add(b"1")
    one.intake.add(b"2")
    one.begun[b"1"].set_exception(PublicationError("expected a publication"))
    await settle()
    assert list(one.begun) == [b"1", b"2"]
    assert one.counters.lost_publications_total == 0
    assert caplog.messages == ["Publication refused: expected a publication; it begins with b'1'"]
    one.begun[b"2"].set_result(None)
    await one.intake.finish()
