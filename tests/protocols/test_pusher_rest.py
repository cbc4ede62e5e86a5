"""Bodies of requests to Pusher's HTTP API."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import RequestRefused
from catenary.protocols.pusher_rest import (
    Attributes,
    Event,
    batch_answer,
    check_channel,
    check_object,
    check_user_id,
    events_answer,
    read_batch,
    read_event,
    read_info,
    read_user_event,
)

LIMIT = 100


def body(**fields: object) -> bytes:
    return json.dumps({"name": "n", "data": "d", **fields}).encode()


def refusal(status: int, call: Any, *arguments: object) -> str:
    with pytest.raises(RequestRefused) as caught:
        call(*arguments)
    assert caught.value.status == status
    return str(caught.value)


def test_an_event_for_several_channels() -> None:
    event = read_event(
        body(channels=["a", "presence-b"], socket_id="12.34", info="user_count,subscription_count"),
        LIMIT,
    )
    assert event == Event(
        "n", "d", ("a", "presence-b"), "12.34", frozenset({"user_count", "subscription_count"})
    )


def test_a_channel_that_is_named_twice_gets_an_event_once() -> None:
    assert read_event(body(channels=["a", "b", "a"]), LIMIT).channels == ("a", "b")


def test_unknown_fields_and_nulls_are_ignored() -> None:
    event = read_event(body(channel="a", channels=None, socket_id=None, tags=[1]), LIMIT)
    assert event == Event("n", "d", ("a",))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "expected a channel, got none"),
        ({"channels": []}, "expected a channel, got none"),
        ({"channel": "a", "channels": ["b"]}, "expected channel or channels, got both"),
        ({"channels": ["c"] * 101}, "expected up to 100 channels, got 101"),
        ({"channel": ""}, "Invalid channel name ''"),
        ({"channel": "ä"}, "Invalid channel name 'ä'"),
        ({"channel": "a\n"}, "Invalid channel name 'a\\n'"),
        ({"channel": "c" * 201}, "Invalid channel name 'ccc"),
        ({"channel": "#server-to-user-"}, "expected a user id of 1 to 128 characters, got 0"),
        ({"channel": "a", "name": ""}, "expected an event name of 1 to 200 characters, got 0"),
        ({"channel": "a", "name": "n" * 201}, "expected an event name of 1 to 200 characters"),
        ({"channel": "a", "name": "pusher:error"}, "expected an event name that does not begin"),
        ({"channel": "a", "socket_id": "1"}, "Invalid socket id '1'"),
        ({"channel": "a", "info": "members"}, "info: expected user_count"),
        ({"channel": "a", "data": {"some": "object"}}, "expected {name, data, channels} in JSON"),
        ({"channel": "a", "name": 1}, "expected {name, data, channels} in JSON"),
    ],
)
def test_what_an_event_needs(fields: dict[str, object], why: str) -> None:
    assert refusal(400, read_event, body(**fields), LIMIT).startswith(why)


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_event_is_refused(raw: bytes) -> None:
    for read in (read_event, read_batch):
        refusal(400, read, raw, LIMIT)
    refusal(400, read_user_event, raw, "jack", LIMIT)


def test_data_has_a_limit_in_bytes() -> None:
    read_event(body(channel="a", data="é" * 50), LIMIT)
    why = refusal(413, read_event, body(channel="a", data="é" * 51), LIMIT)
    assert why.endswith("exceeds the allowed maximum (100 bytes), got 102")


def test_a_batch_keeps_its_order() -> None:
    raw = json.dumps({"batch": [{"name": name, "channel": "c", "data": "d"} for name in "ba"]})
    assert [event.name for event in read_batch(raw.encode(), LIMIT)] == ["b", "a"]


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([{"name": "n", "channel": "c", "data": "d"}] * 11, "expected up to 10 events in a batch"),
        ([{"name": "n", "channels": ["c"], "data": "d"}], "event 1 of the batch: expected one"),
        (
            [{"name": "n", "channel": c, "data": "d"} for c in ("c", "ü")],
            "event 2 of the batch: Invalid channel name",
        ),
    ],
)
def test_what_a_batch_needs(events: list[object], why: str) -> None:
    assert refusal(400, read_batch, json.dumps({"batch": events}).encode(), LIMIT).startswith(why)


def test_an_event_for_a_user() -> None:
    event = read_user_event(body(channel="ignored"), "jack", LIMIT)
    assert event.channels == ("#server-to-user-jack",)
    refusal(400, read_user_event, body(), "", LIMIT)


@pytest.mark.parametrize("name", ["a-b_c=d@e,f.g;h9", "#server-to-user-jack r."])
def test_valid_channels(name: str) -> None:
    check_channel(name)


@pytest.mark.parametrize("user_id", ["", "u" * 129])
def test_ids_of_users_have_a_length(user_id: str) -> None:
    refusal(400, check_user_id, user_id)


def test_info_is_a_list() -> None:
    assert read_info(None) == read_info("") == frozenset()
    assert read_info("user_count, cache") == {"user_count", "cache"}


def test_an_object_or_nothing() -> None:
    for raw in (b"", b"{}", b'{"any":[1]}'):
        check_object(raw)
    refusal(400, check_object, b"[]")


def test_answers() -> None:
    assert events_answer({}) == batch_answer([]) == b"{}"
    known = {"presence-a": Attributes(user_count=2, subscription_count=3), "b": Attributes()}
    assert json.loads(events_answer(known)) == {
        "channels": {"presence-a": {"user_count": 2, "subscription_count": 3}, "b": {}}
    }
    assert json.loads(batch_answer([Attributes(subscription_count=0), Attributes()])) == {
        "batch": [{"subscription_count": 0}, {}]
    }


@given(st.binary() | st.text().map(str.encode))
def test_no_body_raises_anything_else(raw: bytes) -> None:
    for call in (
        lambda: read_event(raw, LIMIT),
        lambda: read_batch(raw, LIMIT),
        lambda: read_user_event(raw, "jack", LIMIT),
        lambda: check_object(raw),
    ):
        try:
            call()
        except RequestRefused:
            pass
