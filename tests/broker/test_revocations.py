"""Revocations: which identifiers were revoked, since when, and which revocations are forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from catenary.broker.revocations import LATE_S, Revocations

TTL_S = 10.0


def test_sessions_older_than_a_revocation_are_revoked() -> None:
    revocations = Revocations(TTL_S)
    revocations.revoke("a", 0)
    revocations.revoke("b", 0)
    assert revocations.newest == 2
    assert [revocations.is_revoked("a", since) for since in (0, 1, 2)] == [True, False, False]
    assert [revocations.is_revoked("b", since) for since in (0, 1, 2)] == [True, True, False]
    assert not revocations.is_revoked("c", 0)


def test_a_revocation_is_added_once() -> None:
    revocations = Revocations(TTL_S)
    assert revocations.add("a", 5, 0)
    assert not revocations.add("a", 5, 0)
    assert not revocations.add("a", 4, 0)
    assert revocations.add("b", 4, 0)
    assert revocations.newest == 5
    assert revocations.is_revoked("b", 3)
    assert not revocations.is_revoked("b", 4)


def test_a_revocation_is_remembered_for_longer_than_sessions() -> None:
    revocations = Revocations(TTL_S)
    revocations.add("a", 1, 0)
    revocations.add("b", 2, TTL_S + LATE_S - 1)
    assert revocations.is_revoked("a", 0)
    revocations.add("c", 3, TTL_S + LATE_S)
    assert len(revocations) == 2
    assert not revocations.is_revoked("a", 0)
    assert revocations.is_revoked("b", 1)


def test_beyond_the_limit_all_older_sessions_are_revoked() -> None:
    revocations = Revocations(TTL_S, limit=2)
    for number, identifiers in enumerate("abc", 1):
        revocations.add(identifiers, number, 0)
    assert len(revocations) == 2
    assert revocations.is_revoked("a", 0)
    assert revocations.is_revoked("another", 0)
    assert not revocations.is_revoked("another", 1)
    assert revocations.is_revoked("b", 1)


@given(
    revoked=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 30), st.integers(0, 99))),
    limit=st.integers(1, 5),
)
def test_no_session_outlives_a_revocation_of_its_identifiers(
    revoked: list[tuple[str, int, int]], limit: int
) -> None:
    """In any order of adding. Beyond the limit, sessions of other identifiers may end, too."""
    revocations = Revocations(TTL_S, limit=limit)
    model: dict[str, tuple[int, int]] = {}
    for identifiers, number, now in sorted(revoked, key=lambda each: each[2]):
        is_new = number > model.get(identifiers, (0, 0))[0]
        # A revocation that is not new may have been forgotten, and is then added again.
        is_added = revocations.add(identifiers, number, now)
        assert is_added or not is_new
        if is_new:
            model[identifiers] = (number, now)
        for each, (newest, at) in model.items():
            if now - at < TTL_S:
                assert all(revocations.is_revoked(each, since) for since in range(newest))
        assert len(revocations) <= limit
    assert revocations.newest == max((number for _, number, _ in revoked), default=0)
