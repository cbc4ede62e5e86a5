"""The events of a live trace: one for each event of an observer, which meets the filter and hides secrets."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from catenary.api import trace_events
from catenary.api.trace_events import DATA_CHARS, EVENTS, TraceFilter, TraceObserver
from catenary.messages.commands import ClientPong, Perform, Subscribe
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment, Ingress, Requester
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import PresenceChange
from catenary.messages.publications import Publication, RemoteDisconnect
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Disconnected
from catenary.silent_observer import SilentObserver

SECRET = "s3cret-of-a-client"
CHAT = Identifier('{"channel":"Chat","token":"s3cret-of-a-client"}')
STREAM = Stream("chat/1")
CLIENT = Environment(
    Sid("sid-1"),
    f"http://host/cable?jid={SECRET}",
    {"REMOTE_ADDR": "10.0.0.1", "cookie": SECRET, "authorization": f"Bearer {SECRET}"},
    identifiers='{"user":1}',
    ingress=Ingress(transport="websocket", protocol="p", origin="http://page"),
)
Call = Callable[[TraceObserver], None]
ALL = TraceFilter()
CALLS: dict[str, Call] = {
    "request_refused": lambda o: o.request_refused(Requester("10.0.0.1", "GET", "/x"), 404, "no"),
    "opened": lambda o: o.opened(CLIENT),
    "connected": lambda o: o.connected(CLIENT, is_resumed=False),
    "resumed": lambda o: o.connected(CLIENT, is_resumed=True),
    "rejected": lambda o: o.rejected(CLIENT, Reason.UNAUTHORIZED, f"jid={SECRET}"),
    "received": lambda o: o.received(CLIENT, Perform(CHAT, f'{{"password":"{SECRET}"}}')),
    "refused": lambda o: o.refused(CLIENT, "not JSON"),
    "subscribed": lambda o: o.subscribed(CLIENT, CHAT),
    "subscription_rejected": lambda o: o.subscription_rejected(CLIENT, CHAT, ""),
    "unsubscribed": lambda o: o.unsubscribed(CLIENT, CHAT),
    "performed": lambda o: o.performed(CLIENT, CHAT, Decision(verdict=Verdict.FAILURE)),
    "failed": lambda o: o.failed(CLIENT, None, "no answer"),
    "transmitted": lambda o: o.transmitted(CLIENT, Confirmed(CHAT)),
    "disconnected": lambda o: o.disconnected(CLIENT, Reason.REMOTE),
    "closed": lambda o: o.closed(CLIENT, None, "code 1000"),
    "published": lambda o: o.published((Publication(STREAM, f'{{"api_key":"{SECRET}"}}'),)),
    "disconnect": lambda o: o.published((RemoteDisconnect('{"user":1}', reconnect=True),)),
    "publication_refused": lambda o: o.publication_refused(b"raw", "no stream"),
    "whispered": lambda o: o.whispered(CLIENT, Publication(STREAM, "hi")),
    "no_history": lambda o: o.found_no_history(CLIENT, STREAM),
    "presence": lambda o: o.presence_changed(PresenceChange(STREAM, "join", "ann")),
    "delivered": lambda o: o.delivered(STREAM, 2, 3),
}


def events(call: Call, wanted: TraceFilter = ALL, *, listens: bool = False) -> list[dict[str, Any]]:
    """The events that a filter lets through; with ``listens``, every client listens to every stream."""
    found: list[bytes] = []
    call(TraceObserver("n", 1, wanted, lambda _, stream: listens and stream != "", found.append))
    return [json.loads(each) for each in found]


def test_secrets_are_looked_for_once_for_all_readers_and_only_in_what_may_be_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20 readers of publications of 3 KB took 20 ms of the event loop for each publication."""
    searched: list[str] = []

    def redact(text: str) -> str:
        searched.append(text)
        return text

    monkeypatch.setattr(trace_events, "redacted", redact)
    stream, data = Stream("searched-once"), "x" * 3_000
    shown = [
        events(lambda observer: observer.published((Publication(stream, data),))) for _ in range(20)
    ]
    assert sorted(map(len, searched)) == [len(stream), 2 * DATA_CHARS]
    assert shown[0][0]["data"] == "x" * DATA_CHARS + "… (3000 characters)"


def test_every_event_of_an_observer_is_shown() -> None:
    methods = {name for name in vars(SilentObserver) if not name.startswith("_")}
    assert methods <= vars(TraceObserver).keys()
    assert tuple(CALLS) == EVENTS


@pytest.mark.parametrize("name", EVENTS)
def test_an_event(name: str) -> None:
    (event,) = events(CALLS[name])
    assert (event["event"], event["node"], event["worker"]) == (name, "n", 1)
    assert SECRET not in json.dumps(event)
    assert events(CALLS[name], TraceFilter(event=f"closing,{name}")) != []
    assert events(CALLS[name], TraceFilter(event="another")) == []


CLIENTS = {name for name, call in CALLS.items() if events(call)[0].get("sid")}
ON_A_STREAM = {name for name, call in CALLS.items() if events(call)[0].get("stream")}


@pytest.mark.parametrize("name", EVENTS)
def test_filters(name: str) -> None:
    call = CALLS[name]
    is_client, is_request = name in CLIENTS, name == "request_refused"
    assert bool(events(call, TraceFilter(sid="sid-1"))) == is_client
    assert bool(events(call, TraceFilter(address="10.0.0.1"))) == (is_client or is_request)
    assert bool(events(call, TraceFilter(identifiers='{"user":1}'))) == (
        is_client or name == "disconnect"
    )
    assert bool(events(call, TraceFilter(stream="chat/1"))) == (name in ON_A_STREAM)
    # A stream also has the events of its listeners, a client those of its streams.
    assert bool(events(call, TraceFilter(stream="chat/1"), listens=True)) == (
        is_client or name in ON_A_STREAM
    )
    assert bool(events(call, TraceFilter(sid="sid-1"), listens=True)) == (
        is_client or name in ON_A_STREAM
    )
    for other in ("sid", "address", "identifiers", "stream"):
        assert events(call, TraceFilter(**{other: "another"})) == []


def test_data_are_shortened() -> None:
    (event,) = events(lambda o: o.published((Publication(STREAM, "x" * 1_000_000),)))
    assert len(event["data"]) < DATA_CHARS + 30


def test_a_large_batch_is_shown_in_part() -> None:
    batch = tuple(Publication(STREAM, str(number)) for number in range(1_000))
    found = events(lambda o: o.published(batch))
    assert len(found) == 10
    assert {each["total"] for each in found} == {1_000}


def test_answers_to_pings_are_not_shown() -> None:
    assert events(lambda o: o.received(CLIENT, ClientPong())) == []
    (event,) = events(lambda o: o.received(CLIENT, Subscribe(CHAT)))
    assert event["command"] == "Subscribe"


def test_a_message_of_the_application() -> None:
    (event,) = events(lambda o: o.transmitted(CLIENT, '{"message":1}'))
    assert event["data"] == '{"message":1}'
    (event,) = events(lambda o: o.transmitted(CLIENT, Disconnected(Reason.REMOTE, reconnect=True)))
    assert (event["message"], event["reason"]) == ("Disconnected", "a remote disconnect")


def test_text_that_is_no_unicode() -> None:
    (event,) = events(lambda o: o.request_refused(Requester("", "GET", "/\udcff"), 400, "\ud800"))
    assert event["path"].startswith("/")
