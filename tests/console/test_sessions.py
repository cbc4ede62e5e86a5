"""Sessions of the console: signed, expiring, bound to the key."""

import pytest

from catenary.console.sessions import SESSION_S, Sessions

NONCE = bytes(16)


def test_a_session_is_valid_until_it_expires() -> None:
    sessions = Sessions("key")
    session = sessions.issued(1000.0, NONCE)
    assert sessions.is_valid(session, 1000.0)
    assert sessions.is_valid(session, 1000.0 + SESSION_S - 1)
    assert not sessions.is_valid(session, 1000.0 + SESSION_S)


def test_another_process_with_the_same_key_accepts_it_and_one_with_another_key_does_not() -> None:
    session = Sessions("key").issued(1000.0, NONCE)
    assert Sessions("key").is_valid(session, 1000.0)
    assert not Sessions("other").is_valid(session, 1000.0)


def test_a_session_can_not_be_made_or_changed() -> None:
    sessions = Sessions("key")
    session = sessions.issued(1000.0, NONCE)
    expiry, rest = session.split(".", 1)
    longer = f"{int(expiry) + 1}.{rest}"
    for forged in (
        "",
        ".",
        "..",
        "a.b.c",
        "9999999999",
        longer,
        session[:-1],
        f"{session}=",
        "ü.ü",
    ):
        assert not sessions.is_valid(forged, 1000.0)


def test_no_byte_of_a_session_is_without_a_signature() -> None:
    sessions = Sessions("key")
    session = sessions.issued(1000.0, NONCE)
    for place in range(len(session) - 1):
        changed = "B" if session[place] == "A" else "A"
        assert not sessions.is_valid(session[:place] + changed + session[place + 1 :], 1000.0)


def test_an_empty_key_signs_nothing() -> None:
    with pytest.raises(ValueError, match="expected a key"):
        Sessions("")
