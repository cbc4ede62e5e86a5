"""Names of Pusher channels, and events as publications."""

import json

import pytest

from catenary.protocols import pusher_events as names


@pytest.mark.parametrize("name", ["a", "private-x", "a_b=c@d,e.f;G-0", "x" * 200])
def test_valid_names(name: str) -> None:
    assert names.is_channel(name)


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "a/b", "#a", "#server-to-user-1", "ü", "a\n", "x" * 201, "\ud800"]
)
def test_invalid_names(name: str) -> None:
    """A name with a colon could be a stream of another app."""
    assert not names.is_channel(name)


def test_an_event_is_a_publication_that_other_clients_read() -> None:
    assert json.loads(names.event_text("new", '{"a":1}')) == {"event": "new", "data": '{"a":1}'}
    assert json.loads(names.event_text("client-x", {"a": 1}, "7")) == {
        "event": "client-x",
        "data": {"a": 1},
        "user_id": "7",
    }


def test_users_of_two_apps_are_apart() -> None:
    assert names.user_identifiers("a", "7") != names.user_identifiers("b", "7")
