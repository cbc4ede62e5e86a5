"""When publications leave: at once, or when somebody says that the moment has come."""

from collections.abc import Callable

import pytest

from catenary import Cable


class Recorder:
    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def publish(self, raw: bytes) -> None:
        self.taken.append(raw)


class Transaction:
    """As Django's: what is to happen on commit, at once where no transaction is open."""

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


def test_it_leaves_when_the_moment_has_come() -> None:
    recorder, transaction = Recorder(), Transaction()
    cable = Cable(channels=[], publisher=recorder, publish_when=transaction.on_commit)
    assert cable.broadcast("a", 1).is_done
    with cable.batch():
        cable.broadcast("a", 2)
        cable.broadcast("a", 3)
    assert recorder.taken == []
    transaction.commit()
    assert [each[:1] for each in recorder.taken] == [b"{", b"["]
    cable.broadcast("a", 4)
    assert len(recorder.taken) == 3


def test_it_never_leaves_where_the_moment_does_not_come() -> None:
    recorder, transaction = Recorder(), Transaction()
    cable = Cable(channels=[], publisher=recorder, publish_when=transaction.on_commit)
    cable.broadcast("a", 1)
    assert recorder.taken == []


def test_what_can_t_be_written_is_told_at_once() -> None:
    cable = Cable(channels=[], publisher=Recorder(), publish_when=Transaction().on_commit)
    with pytest.raises(TypeError):
        cable.broadcast("a", object())
