"""Readers at the end of a stream: who gets which messages, encoded how often."""

from catenary.adapters.none import NoInterest
from catenary.messages.names import Stream
from catenary.messages.publications import Position, Publication
from catenary.metrics.counters import Counters
from catenary.node.hub import Hub
from catenary.protocols.durable_streams import Chunk, Content
from catenary.transports.stream_tails import RECENT, RECENT_BYTES, Tail, Tails

NEWS = Stream("news")


class Waiting:
    """A reader that waits again after each chunk."""

    def __init__(self, tail: Tail, position: Position | None) -> None:
        self._tail = tail
        self.position = position
        self.is_waiting = False
        self.content = Content.JSON
        self.chunks: list[Chunk] = []
        self.has_to_read = False
        tail.wait(self)

    def take(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.position = chunk.end
        self._tail.wait(self)

    def catch_up(self) -> None:
        self.has_to_read = True

    @property
    def bodies(self) -> list[bytes]:
        return [each.body for each in self.chunks]


class House:
    """A hub whose turns a test takes by hand."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.hub = Hub(Counters(), lambda *call: self.calls.append(call), NoInterest())
        self.tails = Tails(self.hub)
        self.tail = self.tails.join(NEWS)

    def publish(self, *offsets: int, data: str = "", epoch: str = "e") -> None:
        for offset in offsets:
            position = Position(epoch, offset)
            self.hub.deliver(Publication(NEWS, data or str(offset), position=position))

    def settle(self) -> None:
        for _ in range(10):
            calls, self.calls = self.calls, []
            for call, *args in calls:
                call(*args)  # type: ignore[operator]


def at(offset: int) -> Position:
    return Position("e", offset)


def test_what_is_published_in_one_turn_is_one_chunk_for_all_at_the_same_position() -> None:
    house = House()
    readers = [Waiting(house.tail, at(3)) for _ in range(3)]
    house.publish(4, 5)
    assert readers[0].chunks == []
    house.settle()
    assert readers[0].bodies == [b"[4,5]"]
    assert all(each.chunks[0] is readers[0].chunks[0] for each in readers)
    house.publish(6)
    house.settle()
    assert readers[2].bodies == [b"[4,5]", b"[6]"]


def test_a_reader_gets_the_messages_after_its_position() -> None:
    """A remote history may be ahead of live delivery, or behind it."""
    house = House()
    house.publish(4)
    behind, level, ahead = (Waiting(house.tail, at(offset)) for offset in (3, 4, 5))
    empty = Waiting(house.tail, None)
    house.settle()
    assert (behind.bodies, level.bodies, ahead.bodies) == ([b"[4]"], [], [])
    assert empty.bodies == [b"[4]"]
    house.publish(5)
    house.publish(6)
    house.settle()
    assert behind.bodies == [b"[4]", b"[5,6]"]
    assert (level.bodies, ahead.bodies) == ([b"[5,6]"], [b"[6]"])


def test_a_reader_that_leaves_gets_nothing() -> None:
    house = House()
    left, stays = Waiting(house.tail, at(3)), Waiting(house.tail, at(3))
    house.publish(4)
    house.tail.stop_waiting(left)
    house.settle()
    assert (left.bodies, stays.bodies) == ([], [b"[4]"])


def test_messages_that_are_not_remembered_are_read_from_the_history() -> None:
    for offsets, data in ((range(4, 5 + RECENT), "1"), ((4, 5), '"' + "x" * RECENT_BYTES + '"')):
        house = House()
        reader, later = Waiting(house.tail, at(3)), Waiting(house.tail, at(4))
        house.publish(*offsets, data=data)
        house.settle()
        assert (reader.has_to_read, reader.bodies) == (True, [])
        assert (later.has_to_read, len(later.chunks)) == (False, 1)


def test_a_new_epoch_is_read_from_the_history_which_knows_that_the_position_is_lost() -> None:
    house = House()
    reader = Waiting(house.tail, at(3))
    house.publish(1, epoch="f")
    house.settle()
    assert (reader.has_to_read, reader.bodies) == (True, [])


def test_messages_without_a_position_are_not_for_readers() -> None:
    house = House()
    reader = Waiting(house.tail, at(3))
    house.hub.deliver(Publication(NEWS, "1", transient=True))
    house.settle()
    assert (reader.bodies, reader.has_to_read) == ([], False)


def test_a_stream_is_followed_while_it_has_readers() -> None:
    house = House()
    assert house.tails.join(NEWS) is house.tail
    house.tails.leave(NEWS)
    assert house.hub.streams_num == 1
    house.tails.leave(NEWS)
    assert house.hub.streams_num == 0
    assert house.tails.join(NEWS) is not house.tail
