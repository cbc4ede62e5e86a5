"""Publishing from methods, threads and other event loops; batches; publications that wait for a commit."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from catenary import Cable, Channel
from catenary.channels.errors import (
    NotHosted,
)
from catenary.channels.publishing import Publisher
from catenary.errors import BackendError
from tests.channels.direct_calls import (
    Pace,
    RecordingPublisher,
)
from tests.parts.heart import in_loop
from tests.parts.ports import free_port


@in_loop
async def test_any_thread_and_any_loop_may_publish() -> None:
    cable, recorder = Cable(channels=[Pace]), RecordingPublisher()
    await cable.application.start(recorder)
    cable.broadcast("a", 1)

    def elsewhere() -> None:
        cable.broadcast("b", 2)
        asyncio.run(another_loop())

    async def another_loop() -> None:
        await cable.broadcast("c", 3, exclude_socket="s9", transient=True)

    await asyncio.to_thread(elsewhere)
    assert recorder.threads == {threading.get_ident()}, "the server's loop has one thread"
    assert recorder.published == [
        b'{"stream":"a","data":"1"}',
        b'{"stream":"b","data":"2"}',
        b'{"stream":"c","data":"3","meta":{"exclude_socket":"s9","transient":true}}',
    ]
    await cable.stop(1)


@in_loop
async def test_a_batch_is_one_publication_unless_its_block_raises() -> None:
    cable, recorder = Cable(channels=[Pace]), RecordingPublisher()
    await cable.application.start(recorder)
    with cable.batch():
        cable.broadcast("a", 1)
        Pace.broadcast_to(7, {"b": 2})
        assert recorder.published == []
    with pytest.raises(TypeError):  # noqa: PT012, SIM117  (which of the two raises is the point)
        with cable.batch():
            cable.broadcast("a", 3)
            cable.broadcast("a", object())
    with cable.batch():
        pass
    assert recorder.published == [
        b'[{"stream":"a","data":"1"},{"stream":"Pace:7","data":"{\\"b\\":2}"}]'
    ]
    await cable.stop(1)


def test_without_a_server_the_given_publisher_is_used() -> None:
    recorder = RecordingPublisher()
    publisher: Publisher = recorder
    cable = Cable(channels=[Pace], publisher=publisher)
    cable.broadcast("a", 1)
    assert recorder.published == [b'{"stream":"a","data":"1"}']


def test_a_message_that_json_can_not_carry_raises_in_the_call() -> None:
    cable = Cable(channels=[Pace], publisher=RecordingPublisher())
    with pytest.raises(TypeError):
        cable.broadcast("a", object())


class Transaction:
    """Like Django's: calls wait for the commit, or run at once if no transaction is open."""

    def __init__(self) -> None:
        self.is_open = True
        self._later: list[Callable[[], object]] = []

    def on_commit(self, call: Callable[[], object]) -> None:
        if self.is_open:
            self._later.append(call)
        else:
            call()

    def commit(self) -> None:
        self.is_open = False
        for call in self._later:
            call()


def test_publish_when_delays_publications() -> None:
    recorder, transaction = RecordingPublisher(), Transaction()
    cable = Cable(channels=[], publisher=recorder, publish_when=transaction.on_commit)
    assert cable.broadcast("a", 1).is_done
    with cable.batch():
        cable.broadcast("a", 2)
        cable.broadcast("a", 3)
    assert recorder.published == []
    transaction.commit()
    assert [each[:1] for each in recorder.published] == [b"{", b"["]
    cable.broadcast("a", 4)
    assert len(recorder.published) == 3


def test_a_publication_whose_transaction_is_rolled_back_is_never_sent() -> None:
    recorder, transaction = RecordingPublisher(), Transaction()
    cable = Cable(channels=[], publisher=recorder, publish_when=transaction.on_commit)
    cable.broadcast("a", 1)
    assert recorder.published == []


def test_publish_when_does_not_delay_errors() -> None:
    cable = Cable(channels=[], publisher=RecordingPublisher(), publish_when=Transaction().on_commit)
    with pytest.raises(TypeError):
        cable.broadcast("a", object())


def test_publishing_without_a_server_and_a_publisher_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lonely(Channel): ...

    with pytest.raises(NotHosted, match="expected a cable that serves Lonely"):
        Lonely.broadcast_to(1, "x")
    cable = Cable(channels=[Lonely])
    monkeypatch.setenv("ANYCABLE_HTTP_BROADCAST_URL", url := f"http://127.0.0.1:{free_port()}/b")
    with pytest.raises(BackendError, match=f"no server accepts broadcasts at {url}"):
        Lonely.broadcast_to(1, "x")
    cable.application.release()
    with pytest.raises(TypeError, match="to_others"):
        cable.broadcast("chat", "x", to_others=True)
