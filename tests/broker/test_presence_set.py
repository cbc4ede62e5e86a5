"""Members, sessions and TTLs, against a list of joined sessions as the model."""

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from catenary.broker.presence_set import PresenceSet
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange

TTL_S = 15.0
TICK_S = 0.5

S, T = Stream("s"), Stream("t")
ONE, TWO = Sid("1"), Sid("2")


def test_a_session_expires_at_most_a_tick_after_its_ttl() -> None:
    present = PresenceSet(TTL_S)
    present.join(S, ONE, "jack", "1", 0)
    assert present.expire(TTL_S) == ()
    assert present.members(S) == (Member("jack", "1"),)
    assert present.expire(TTL_S + TICK_S) == (PresenceChange(S, "leave", "jack"),)
    assert present.members(S) == ()
    assert len(present) == 0


def test_a_join_is_a_touch() -> None:
    present = PresenceSet(TTL_S)
    present.join(S, ONE, "jack", "1", 0)
    present.join(T, ONE, "jack", "1", 10)
    assert present.expire(10 + TTL_S) == ()


def test_a_refused_join_changes_nothing() -> None:
    present = PresenceSet(TTL_S)
    present.join(S, ONE, "jack", "1", 0)
    assert present.join(S, ONE, "rose", "2", 10) is None
    assert present.members(S) == (Member("jack", "1"),)
    assert present.expire(10 + TTL_S) == (PresenceChange(S, "leave", "jack"),)


def test_a_session_that_is_touched_before_the_sweep_has_not_left() -> None:
    present = PresenceSet(TTL_S)
    present.join(S, ONE, "jack", "1", 0)
    present.touch(ONE, TTL_S + 10)
    assert present.expire(TTL_S + 11) == ()
    assert present.members(S) == (Member("jack", "1"),)


@pytest.mark.parametrize("ttl_s", [-1, 0])
def test_with_a_ttl_of_0_a_session_expires_in_the_next_sweep(ttl_s: float) -> None:
    present = PresenceSet(ttl_s)
    assert present.join(S, ONE, "jack", "1", 100) is not None
    assert present.members(S) == (Member("jack", "1"),)
    assert present.expire(101) == (PresenceChange(S, "leave", "jack"),)


def test_a_session_that_left_all_streams_is_forgotten() -> None:
    present = PresenceSet(TTL_S)
    present.join(S, ONE, "jack", "1", 0)
    present.join(T, ONE, "jack", "1", 0)
    present.join(S, TWO, "jack", "1", 0)
    present.leave(S, ONE)
    assert len(present) == 2
    present.leave(T, ONE)
    present.leave(S, TWO)
    assert len(present) == 0
    assert present.expire(1_000) == ()


@dataclass
class Joined:
    """One session on one stream."""

    stream: Stream
    sid: Sid
    member_id: str


class SetAgainstModel(RuleBasedStateMachine):
    """``joined`` is in the order of joining; ``known`` has the last info of each member."""

    streams = st.sampled_from([S, T])
    sids = st.sampled_from([Sid(each) for each in "12345"])
    ids = st.sampled_from(["jack", "rose", ""])
    infos = st.sampled_from(["1", "2"])

    def __init__(self) -> None:
        super().__init__()
        self.present = PresenceSet(TTL_S)
        self.joined: list[Joined] = []
        self.known: dict[Stream, dict[str, str]] = {S: {}, T: {}}
        self.touched: dict[Sid, float] = {}
        self.now = 1_000.0

    def on(self, stream: Stream, sid: Sid) -> Joined | None:
        matching = [each for each in self.joined if (each.stream, each.sid) == (stream, sid)]
        return matching[0] if matching else None

    def without_sessions(self) -> list[PresenceChange]:
        """Removes members without sessions, and returns their leaves."""
        here = {(each.stream, each.member_id) for each in self.joined}
        gone = [
            (stream, member_id)
            for stream, members in self.known.items()
            for member_id in members
            if (stream, member_id) not in here
        ]
        for stream, member_id in gone:
            del self.known[stream][member_id]
        return [PresenceChange(stream, "leave", member_id) for stream, member_id in gone]

    @rule(stream=streams, sid=sids, member_id=ids, info=infos)
    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> None:
        change = self.present.join(stream, sid, member_id, info, self.now)
        before = self.on(stream, sid)
        if before is not None and before.member_id != member_id:
            assert change is None
            return
        self.touched[sid] = self.now
        if before is None:
            self.joined.append(Joined(stream, sid, member_id))
        known = self.known[stream].get(member_id)
        self.known[stream][member_id] = info
        if known is None:
            assert change == PresenceChange(stream, "join", member_id, info)
        elif known != info:
            assert change == PresenceChange(stream, "update", member_id, info)
        else:
            assert change is None

    @rule(stream=streams, sid=sids)
    def leave(self, stream: Stream, sid: Sid) -> None:
        change = self.present.leave(stream, sid)
        self.joined = [each for each in self.joined if (each.stream, each.sid) != (stream, sid)]
        assert ([] if change is None else [change]) == self.without_sessions()

    @rule(sid=sids)
    def touch(self, sid: Sid) -> None:
        self.present.touch(sid, self.now)
        self.touched[sid] = self.now

    @rule(seconds=st.sampled_from([0, 0.5, 7, 14.5, 15, 15.5, 40]))
    def expire(self, seconds: float) -> None:
        """All times are whole ticks, so that the expired sessions are known exactly."""
        self.now += seconds
        leaves = self.present.expire(self.now)
        self.joined = [
            each for each in self.joined if self.touched[each.sid] + TTL_S + TICK_S > self.now
        ]
        expected = self.without_sessions()
        assert sorted(map(str, leaves)) == sorted(map(str, expected))

    @invariant()
    def members_are_right_and_in_order(self) -> None:
        for stream in (S, T):
            expected = tuple(Member(*each) for each in self.known[stream].items())
            assert self.present.members(stream) == expected

    @invariant()
    def no_other_session_is_remembered(self) -> None:
        assert len(self.present) == len({each.sid for each in self.joined})


TestSetAgainstModel = SetAgainstModel.TestCase
