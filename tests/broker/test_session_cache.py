"""Snapshots against a dict as the model: each is returned once, to a taker or when its TTL has passed."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from catenary.broker.session_cache import SNAPSHOT_BYTES, Snapshots
from catenary.messages.names import Sid

TTL_S = 16.0

A, B = Sid("a"), Sid("b")


def test_a_snapshot_can_be_taken_until_its_ttl_has_passed() -> None:
    snapshots = Snapshots(TTL_S)
    snapshots.save(A, b"1", 0)
    snapshots.save(B, b"2", 0)
    assert snapshots.take(A, TTL_S - 0.001) == b"1"
    assert snapshots.take(B, TTL_S) is None


def test_a_snapshot_that_is_asked_for_too_late_still_expires() -> None:
    snapshots = Snapshots(TTL_S)
    snapshots.save(A, b"1", 0)
    assert snapshots.take(A, TTL_S) is None
    snapshots.touch(A, TTL_S)
    assert snapshots.expire(TTL_S - 0.001) == ()
    assert snapshots.expire(TTL_S) == (b"1",)
    assert snapshots.expire(TTL_S) == ()


def test_a_snapshot_that_is_saved_again_after_its_ttl_replaces_the_old_one() -> None:
    snapshots = Snapshots(TTL_S)
    snapshots.save(A, b"1", 0)
    snapshots.save(A, b"2", TTL_S + 5)
    assert snapshots.expire(TTL_S + 10) == ()
    assert snapshots.take(A, TTL_S + 10) == b"2"


def test_with_a_ttl_of_0_nothing_is_taken_and_everything_expires() -> None:
    snapshots = Snapshots(0)
    snapshots.save(A, b"1", 100)
    assert snapshots.take(A, 100) is None
    assert snapshots.expire(101) == (b"1",)


def test_clear_returns_each_snapshot_once() -> None:
    snapshots = Snapshots(TTL_S)
    snapshots.save(A, b"1", 0)
    snapshots.save(B, b"2", 10)
    assert snapshots.clear() == (b"1", b"2")
    assert snapshots.clear() == snapshots.expire(1_000) == ()
    assert snapshots.take(B, 11) is None
    assert (len(snapshots), snapshots.size_bytes) == (0, 0)


class CacheAgainstModel(RuleBasedStateMachine):
    """All times are multiples of 0.5 s, so that the expired snapshots are known exactly."""

    sids = st.sampled_from([Sid(each) for each in "abcd"])

    def __init__(self) -> None:
        super().__init__()
        self.snapshots = Snapshots(TTL_S)
        self.kept: dict[Sid, bytes] = {}
        self.deadlines: dict[Sid, float] = {}
        self.now = 1_000.0

    @rule(seconds=st.sampled_from([0.5, 8, 15.5, 16, 16.5, 50]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(sid=sids, snapshot=st.binary(max_size=5))
    def save(self, sid: Sid, snapshot: bytes) -> None:
        self.snapshots.save(sid, snapshot, self.now)
        self.kept[sid], self.deadlines[sid] = snapshot, self.now + TTL_S

    @rule(sid=sids)
    def touch(self, sid: Sid) -> None:
        self.snapshots.touch(sid, self.now)
        if sid in self.kept and self.now < self.deadlines[sid]:
            self.deadlines[sid] = self.now + TTL_S

    @rule(sid=sids)
    def take(self, sid: Sid) -> None:
        taken = self.snapshots.take(sid, self.now)
        is_there = sid in self.kept and self.now < self.deadlines[sid]
        assert taken == (self.kept.pop(sid) if is_there else None)

    @rule()
    def expire(self) -> None:
        over = [sid for sid in self.kept if self.deadlines[sid] <= self.now]
        expected = [self.kept.pop(sid) for sid in over]
        assert sorted(self.snapshots.expire(self.now)) == sorted(expected)

    @invariant()
    def bytes_are_counted(self) -> None:
        assert len(self.snapshots) == len(self.kept)
        expected = sum(SNAPSHOT_BYTES + len(each) for each in self.kept.values())
        assert self.snapshots.size_bytes == expected


TestCacheAgainstModel = CacheAgainstModel.TestCase
