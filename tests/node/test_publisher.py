"""Publications are kept first, then sent; in order, whether keeping takes time or not."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

import msgspec
import pytest

from catenary.adapters.none import NoHistory
from catenary.errors import BackendError
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication, Publishable, RemoteDisconnect
from catenary.node.publisher import Publisher
from tests.parts.heart import in_loop, settle


class CountingHistory(NoHistory):
    """Gives out offsets; where ``slow``, when a test says so."""

    def __init__(self, *, slow: bool = False) -> None:
        self.is_immediate = not slow
        self.newest = 0
        self.pending: list[asyncio.Future[None]] = []

    def append(self, publication: Publication) -> "Publication | Awaitable[Publication]":  # type: ignore[override]
        self.newest += 1
        kept = msgspec.structs.replace(publication, position=Position("e", self.newest))
        return kept if self.is_immediate else self._later(kept)

    async def _later(self, kept: Publication) -> Publication:
        pending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending.append(pending)
        await pending
        return kept


@dataclass
class RecordingPubSub:
    """Satisfies :class:`catenary.ports.PubSub`."""

    sent: list[Publishable] = field(default_factory=list)
    done: Awaitable[None] | None = None

    def send(self, publications: tuple[Publishable, ...]) -> Awaitable[None] | None:
        self.sent += publications
        return self.done


def offsets(pubsub: RecordingPubSub) -> list[object]:
    return [
        (each.position.offset if each.position else None)
        if isinstance(each, Publication)
        else "command"
        for each in pubsub.sent
    ]


FIRST, SECOND = (Publication(Stream("s"), str(number)) for number in (1, 2))
TRANSIENT = Publication(Stream("s"), "t", transient=True)
COMMAND = RemoteDisconnect("{}", False)


def test_what_is_kept_is_sent_with_its_position_and_nothing_else_is_kept() -> None:
    pubsub = RecordingPubSub()
    assert Publisher(CountingHistory(), pubsub).send((FIRST, TRANSIENT, COMMAND, SECOND)) is None
    assert offsets(pubsub) == [1, None, "command", 2]


@in_loop
async def test_nothing_is_sent_before_it_is_kept() -> None:
    history, pubsub = CountingHistory(slow=True), RecordingPubSub()
    sending = Publisher(history, pubsub).send((TRANSIENT, FIRST, COMMAND, SECOND))
    assert sending is not None
    task = asyncio.ensure_future(sending)
    for number in range(2):
        await settle()
        assert pubsub.sent == []
        history.pending[number].set_result(None)
    await task
    assert offsets(pubsub) == [None, 1, "command", 2]


@in_loop
async def test_who_publishes_waits_for_the_sending_too() -> None:
    history = CountingHistory(slow=True)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sending = Publisher(history, RecordingPubSub(done=done)).send((FIRST,))
    assert sending is not None
    task = asyncio.ensure_future(sending)
    await settle()
    history.pending[0].set_result(None)
    await settle()
    assert not task.done()
    done.set_result(None)
    await task


@in_loop
async def test_who_publishes_hears_that_something_could_not_be_kept() -> None:
    history, pubsub = CountingHistory(slow=True), RecordingPubSub()
    sending = Publisher(history, pubsub).send((FIRST, SECOND))
    assert sending is not None
    task = asyncio.ensure_future(sending)
    await settle()
    history.pending[0].set_exception(BackendError("away"))
    with pytest.raises(BackendError):
        await task
    assert pubsub.sent == []
