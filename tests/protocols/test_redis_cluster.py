"""Slots of keys, and what nodes of a Redis Cluster say about them."""

import pytest

from catenary.protocols.redis_cluster import (
    Place,
    Redirection,
    SlotRange,
    beside,
    read_redirection,
    read_slots,
    slot_of,
)

ASKED = Place("asked", 1)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        # From the specification, and from CLUSTER KEYSLOT of Redis 7
        (b"123456789", 12739),
        (b"foo", 12182),
        (b"{user1000}.following", 3443),
        (b"{user1000}.followers", 3443),
        (b"foo{}{bar}", 8363),
        (b"foo{{bar}}zap", 4015),
        (b"foo{bar}{zap}", 5061),
        (b"{bar", 4015),
        (b"", 0),
    ],
)
def test_slots(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot


def test_ranges() -> None:
    reply = [
        [0, 5460, [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.2", 7001, b"id", []]],
        [5461, 16383, [b"", 7002, b"id"], [None, 7003, b"id"], [b"?", 7004]],
    ]
    assert read_slots(reply, ASKED) == [
        SlotRange(0, 5460, Place("10.0.0.1", 7000), (Place("10.0.0.2", 7001),)),
        SlotRange(5461, 16383, Place("asked", 7002), (Place("asked", 7003), Place("asked", 7004))),
    ]
    with pytest.raises(ValueError, match="10923 of 16384 slots are served by no node"):
        read_slots(reply[:1], ASKED)
    with pytest.raises(ValueError, match="16384 of 16384"):
        read_slots([], ASKED)


def test_redirections() -> None:
    assert read_redirection("MOVED 3999 127.0.0.1:6381", ASKED) == Redirection(
        True, 3999, Place("127.0.0.1", 6381)
    )
    assert read_redirection("ASK 5 ::1:6381", ASKED) == Redirection(False, 5, Place("::1", 6381))
    assert read_redirection("MOVED 5 :6381", ASKED) == Redirection(True, 5, Place("asked", 6381))
    assert read_redirection("TRYAGAIN Multiple keys request during rehashing", ASKED) is None
    assert read_redirection("", ASKED) is None


def test_a_key_beside_another() -> None:
    assert beside("__anycable__", ":bx:reader") == "{__anycable__}:bx:reader"
    assert beside("{app}queue", ":bx:reader") == "{app}queue:bx:reader"
    with pytest.raises(ValueError, match="hash tag"):
        beside("a}b", ":bx:reader")
