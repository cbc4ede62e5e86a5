"""Pusher's HTTP API and webhooks, with npm's server library against a running server."""

import hashlib
import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from catenary.auth.pusher import PusherSignatures
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.ports import free_port
from tests.parts.pusher import Event, PusherClient, pusher_client
from tests.parts.pusher_server import PusherServer, pusher_server
from tests.parts.server import CableServer, cable_server
from tests.parts.webhook_receiver import WebhookReceiver, webhook_receiver

MAIN = {"appId": "main", "key": "main-key", "secret": "main-secret"}
OTHER = {"appId": "other", "key": "other-key", "secret": "other-secret"}
FLAGS = (
    *("--public", "--norpc", "--broker=memory", "--pusher_webhook_retry=60"),
    *("--pusher_app_id=main", "--pusher_app_key=main-key", "--pusher_secret=main-secret"),
    *("--pusher_webhook_batch_interval=20", "--pusher_webhook_timeout=1"),
)


def other_app(receiver: WebhookReceiver, **more: object) -> str:
    """The flag of a second app, whose webhooks go to two URLs: one wants everything, the other only client events."""
    webhooks = [
        {"url": f"{receiver.url}/all"},
        {"url": f"{receiver.url}/some", "events": ["member_added", "client_event"]},
    ]
    app = {"id": "other", "key": "other-key", "secret": "other-secret", "webhooks": webhooks}
    return f"--pusher_apps={json.dumps([{**app, **more}])}"


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(receiver: WebhookReceiver) -> Iterator[CableServer]:
    with cable_server(
        *FLAGS, other_app(receiver, max_event_size=100, subscription_count=True)
    ) as server:
        yield server


@pytest.fixture(scope="module")
def library(server: CableServer) -> Iterator[PusherServer]:
    apps = {"main": MAIN, "other": OTHER, "swapped": {**OTHER, "appId": "main"}}
    apps["wrong"] = {**MAIN, "secret": "wrong"}
    apps["unknown"] = {**MAIN, "appId": "unknown"}
    with pusher_server(**{name: {**app, "port": server.port} for name, app in apps.items()}) as one:
        yield one


class Subscriber:
    """A Pusher client of an app."""

    def __init__(self, client: PusherClient, app: dict[str, str]) -> None:
        self.client = client
        self.socket_id = client.socket_id
        self._signatures = PusherSignatures(app["key"], app["secret"])

    def subscribe(self, channel: str, user_id: str = "") -> None:
        """Subscribes, to a presence channel as a member."""
        data = {"channel": channel}
        if user_id:
            data["channel_data"] = json.dumps({"user_id": user_id})
        if channel.startswith(("private-", "presence-")):
            data["auth"] = self._signatures.subscription(
                self.socket_id, channel, data.get("channel_data")
            )
        self.client.send(json.dumps({"event": "pusher:subscribe", "data": data}))
        self.wait_for("pusher_internal:subscription_succeeded", channel)

    def sign_in(self, user_id: str) -> None:
        user = json.dumps({"id": user_id})
        auth = self._signatures.user(self.socket_id, user)
        data = {"auth": auth, "user_data": user}
        self.client.send(json.dumps({"event": "pusher:signin", "data": data}))
        self.wait_for("pusher:signin_success")
        # As pusher-js does it.
        self.subscribe(f"#server-to-user-{user_id}")

    def wait_for(self, name: str, channel: str = "") -> Event:
        """The next event of this name, and of this channel."""
        while True:
            event = self.client.receive()
            if event["event"] == name and channel in ("", event.get("channel")):
                return event


@contextmanager
def subscriber(
    server: CableServer, *channels: str, user_id: str = "", app: dict[str, str] = MAIN
) -> Iterator[Subscriber]:
    """A client that has subscribed to some channels."""
    with pusher_client(server.port, app["key"]) as client:
        subscriber = Subscriber(client, app)
        for channel in channels:
            subscriber.subscribe(channel, user_id if channel.startswith("presence-") else "")
        yield subscriber


def request(
    server: CableServer, method: str, path: str, body: bytes = b"", **more: str
) -> tuple[int, str]:
    """A request that is signed by hand."""
    parameters = {"auth_key": "main-key", "auth_timestamp": str(int(time.time()))}
    parameters |= {"auth_version": "1.0", **more}
    if body:
        parameters["body_md5"] = hashlib.md5(body).hexdigest()
    query = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))
    signed = PusherSignatures("main-key", "main-secret").digest(f"{method}\n{path}\n{query}")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, f"{path}?{query}&auth_signature={signed}", body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


# Signatures


def test_requests_without_a_valid_signature(library: PusherServer) -> None:
    assert library.get("/channels") == (200, {"channels": {}})
    status, why = library.get("/channels", app="wrong")
    assert (status, "Invalid signature" in why) == (401, True)
    assert "main-secret" not in why
    status, why = library.get("/channels", app="swapped")
    assert (status, why) == (401, '{"error":"auth_key is not a key of this app"}')
    assert library.get("/channels", app="unknown") == (404, '{"error":"unknown app \'unknown\'"}')
    library.set_clock(-601)
    try:
        status, why = library.call("trigger", "news", "event", "data")
    finally:
        library.set_clock(0)
    assert (status, "Timestamp expired" in why) == (401, True)


def test_requests_that_no_library_sends(server: CableServer) -> None:
    assert request(server, "GET", "/apps/main/nothing")[0] == 404
    assert request(server, "GET", "/apps/main/events")[0] == 405
    assert request(server, "DELETE", "/apps/main/channels")[0] == 405
    assert request(server, "POST", "/apps/main/events", b"[")[0] == 400
    assert request(server, "POST", "/apps/main/users/jack/terminate_connections", b"[]")[0] == 400
    for path in ("/apps/", "/apps%2f", "/apps%2Fmain/channels", "/%61pps%2fmain/channels"):
        assert request(server, "GET", path)[0] == 404, path
    assert request(server, "GET", "/%61pps/main/channels")[0] == 200
    status, why = request(server, "POST", "/apps/main/events", b" " * 2**24 + b"{}")
    assert (status, why) == (413, '{"error":"expected a body of up to 16777216 bytes"}')
    status, _ = request(server, "POST", "/apps/main/events", b"{}", body_md5="0" * 32)
    assert status == 400, "the digest of the body was replaced by the right one"


# Events


def test_an_event_reaches_its_channels(server: CableServer, library: PusherServer) -> None:
    with subscriber(server, "news", "private-sports") as one:
        status = library.call("trigger", ["news", "private-sports"], "event", {"a": 1})
        assert status == (200, {})
        for channel in ("news", "private-sports"):
            event = one.client.receive()
            assert event == {"event": "event", "channel": channel, "data": {"a": 1}}


def test_a_socket_is_excluded(server: CableServer, library: PusherServer) -> None:
    with subscriber(server, "news") as one, subscriber(server, "news") as two:
        excluding = {"socket_id": one.socket_id}
        library.call("trigger", "news", "first", "data", excluding)
        library.call("triggerBatch", [{"channel": "news", "name": "2nd", "data": "", **excluding}])
        library.call("trigger", "news", "third", "data")
        assert [two.client.receive()["event"] for _ in "123"] == ["first", "2nd", "third"]
        assert one.client.receive()["event"] == "third"


def test_a_batch_in_order(server: CableServer, library: PusherServer) -> None:
    events = [{"channel": "news", "name": name, "data": name} for name in "cab"]
    with subscriber(server, "news") as one:
        assert library.call("triggerBatch", events) == (200, {})
        assert [one.client.receive()["event"] for _ in events] == ["c", "a", "b"]
    status, why = library.call("triggerBatch", events * 4)
    assert (status, why) == (400, '{"error":"expected up to 10 events in a batch, got 12"}')


def test_an_event_and_a_broadcast_reach_clients_of_both_protocols(
    server: CableServer, library: PusherServer
) -> None:
    news = identifier("$pubsub", stream_name="news")
    with subscriber(server, "news") as one, CableClient(server.cable_url) as cable:
        cable.receive_welcome()
        assert cable.subscribe(news) == confirmed(news)
        library.call("trigger", "news", "event", "data")
        event = {"event": "event", "data": "data"}
        assert delivered(news, event).items() <= cable.receive().items()
        assert one.wait_for("event")["data"] == "data"


# Users


def test_events_for_a_user(server: CableServer, library: PusherServer) -> None:
    with subscriber(server) as one, subscriber(server) as two:
        one.sign_in("jack")
        two.sign_in("rose")
        assert library.call("sendToUser", "jack", "hello", {"a": 1}) == (200, {})
        assert library.post("/users/jack/events", {"name": "again", "data": "1"}) == (200, {})
        assert library.call("sendToUser", "rose", "other", "x") == (200, {})
        assert [one.client.receive()["event"] for _ in "12"] == ["hello", "again"]
        assert two.client.receive()["event"] == "other"


def test_the_id_of_a_user_may_have_every_character(
    server: CableServer, library: PusherServer
) -> None:
    with subscriber(server) as one:
        one.sign_in("a/b\nc\n")
        path = "/users/a%2Fb%0Ac%0A"
        assert library.post(f"{path}/events", {"name": "hello", "data": "1"}) == (200, {})
        assert one.client.receive()["event"] == "hello"
        assert library.post(f"{path}/terminate_connections", {}) == (200, {})
        assert one.wait_for("pusher:error")["data"]["code"] == 4009


def test_the_connections_of_a_user_are_terminated(
    server: CableServer, library: PusherServer
) -> None:
    with (
        subscriber(server) as one,
        subscriber(server) as two,
        subscriber(server) as rose,
        subscriber(server, app=OTHER) as namesake,
    ):
        for client, user in ((one, "jack"), (two, "jack"), (rose, "rose"), (namesake, "jack")):
            client.sign_in(user)
        assert library.call("terminateUserConnections", "jack") == (200, {})
        for client in (one, two):
            error = client.wait_for("pusher:error")
            assert error["data"]["code"] == 4009
            with pytest.raises(ConnectionClosed) as closed:
                client.client.receive()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4009
        library.call("sendToUser", "rose", "still here", "x")
        library.call("sendToUser", "jack", "still here", "x", app="other")
        for client in (rose, namesake):
            assert client.client.receive()["event"] == "still here"


# Rules


def test_rules_of_events(library: PusherServer) -> None:
    body = {"name": "n", "channels": ["a"], "data": "d"}
    changes: list[dict[str, object]] = [
        {"name": ""},
        {"channels": ["ü"]},
        {"channels": ["a"] * 101},
        {"data": {}},
    ]
    for change in changes:
        assert library.post("/events", {**body, **change})[0] == 400, change
    assert library.call("trigger", "a", "n", "d" * 10_240) == (200, {})
    status, why = library.call("trigger", "a", "n", "d" * 10_241)
    assert (status, "exceeds the allowed maximum (10240 bytes)" in why) == (413, True)
    assert library.call("trigger", "a", "n", "d" * 101, app="other")[0] == 413


# Channels


def test_channels_and_their_attributes(server: CableServer, library: PusherServer) -> None:
    with (
        subscriber(server, "presence-room", "news", user_id="jack"),
        subscriber(server, "presence-room", user_id="rose") as rose,
        subscriber(server, "presence-room", user_id="rose"),
    ):
        rose.sign_in("rose")
        both = {"user_count": 2, "subscription_count": 3}
        info = {"info": "user_count,subscription_count"}
        assert library.get("/channels/presence-room", **info) == (200, {"occupied": True, **both})
        assert library.get("/channels/news", info="subscription_count") == (
            200,
            {"occupied": True, "subscription_count": 1},
        )
        assert library.get("/channels/nothing") == (200, {"occupied": False})
        assert library.get("/channels") == (200, {"channels": {"presence-room": {}, "news": {}}})
        assert library.get("/channels", filter_by_prefix="presence-", **info) == (
            200,
            {"channels": {"presence-room": both}},
        )
        assert library.get("/channels", info="user_count")[0] == 400
        assert library.get("/channels/news", info="user_count")[0] == 400
        assert library.get("/channels", info="everything")[0] == 400
        assert library.get("/channels/presence-room/users") == (
            200,
            {"users": [{"id": "jack"}, {"id": "rose"}]},
        )
        assert library.get("/channels/presence-nobody/users") == (200, {"users": []})
        assert library.get("/channels/news/users")[0] == 400
        assert library.call("trigger", ["presence-room", "news", "nothing"], "n", "d", info) == (
            200,
            {
                "channels": {
                    "presence-room": both,
                    "news": {"subscription_count": 1},
                    "nothing": {"subscription_count": 0},
                }
            },
        )
        events = [
            {"channel": "news", "name": "n", "data": "d", "info": "subscription_count"},
            {"channel": "presence-room", "name": "n", "data": "d"},
        ]
        assert library.call("triggerBatch", events) == (
            200,
            {"batch": [{"subscription_count": 1}, {}]},
        )


def test_the_last_event_of_a_cache_channel(library: PusherServer) -> None:
    assert library.get("/channels/cache-a", info="cache") == (
        200,
        {"occupied": False, "cache": None},
    )
    library.call("trigger", "cache-a", "n", "first")
    library.call("trigger", "cache-a", "n", "last")
    assert library.get("/channels/cache-a", info="cache") == (
        200,
        {"occupied": False, "cache": {"event": "n", "data": "last"}},
    )


def test_apps_are_apart(server: CableServer, library: PusherServer) -> None:
    with subscriber(server, "news") as one, subscriber(server, "news", app=OTHER) as other:
        assert library.get("/channels") == (200, {"channels": {"news": {}}})
        assert library.get("/channels", app="other") == (200, {"channels": {"news": {}}})
        library.call("trigger", "news", "n", "to other", app="other")
        library.call("trigger", "news", "n", "to main")
        assert one.client.receive()["data"] == "to main"
        assert other.wait_for("n")["data"] == "to other"


# Webhooks


def wanted(events: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [event for event in events if event["name"] in names]


def test_webhooks_of_a_channel(
    server: CableServer, library: PusherServer, receiver: WebhookReceiver
) -> None:
    name = "presence-hooks"
    with subscriber(server, name, user_id="jack", app=OTHER) as one:
        typing = {"event": "client-typing", "channel": name, "data": {"a": 1}}
        one.client.send(json.dumps(typing))
        socket_id = one.socket_id
        counted = {"name": "subscription_count", "channel": name, "subscription_count": 1}
        receiver.wait_until(lambda events: counted in events)
    vacated = {"name": "channel_vacated", "channel": name}
    empty = {**counted, "subscription_count": 0}
    receiver.wait_until(lambda events: vacated in events and empty in events)
    sent = [each for each in receiver.events("/all") if each["channel"] == name]
    assert wanted(sent, "channel_occupied", "channel_vacated") == [
        {"name": "channel_occupied", "channel": name},
        {"name": "channel_vacated", "channel": name},
    ]
    members = [
        {"name": "member_added", "channel": name, "user_id": "jack"},
        {"name": "member_removed", "channel": name, "user_id": "jack"},
    ]
    assert wanted(sent, "member_added", "member_removed") == members
    (event,) = wanted(sent, "client_event")
    assert json.loads(event.pop("data")) == {"a": 1}
    assert event == {
        "socket_id": socket_id,
        "name": "client_event",
        "channel": name,
        "event": "client-typing",
        "user_id": "jack",
    }
    assert [each["subscription_count"] for each in wanted(sent, "subscription_count")] == [1, 0]
    receiver.wait_until(lambda _: len(receiver.events("/some")) >= 2)
    some = [each for each in receiver.events("/some") if each["channel"] == name]
    assert [each["name"] for each in some] == ["member_added", "client_event"]
    for webhook in receiver.received:
        verified = library.verify(webhook, app="other")
        assert verified["valid"]
        assert verified["events"] == webhook.events
        assert abs(verified["time"] / 1000 - time.time()) < 60
        assert not library.verify(webhook, app="main")["valid"]


def test_a_cache_channel_without_an_event(
    server: CableServer, library: PusherServer, receiver: WebhookReceiver
) -> None:
    with subscriber(server, "cache-a", app=OTHER) as one:
        one.wait_for("pusher:cache_miss")
        library.call("trigger", "cache-a", "n", "d", app="other")
        one.wait_for("n")
        with subscriber(server, "cache-a", app=OTHER) as two:
            assert two.client.receive()["event"] == "n"
    vacated = {"name": "channel_vacated", "channel": "cache-a"}
    events = receiver.wait_until(lambda events: vacated in events)
    assert [each for each in events if each["name"] == "cache_miss"] == [
        {"name": "cache_miss", "channel": "cache-a"}
    ]


def test_clients_are_told_the_number_of_subscriptions(server: CableServer) -> None:
    with subscriber(server, "counted", app=OTHER) as one:
        for number in (1, 2):
            event = one.wait_for("pusher_internal:subscription_count")
            assert event["data"] == {"subscription_count": number}
            if number == 1:
                with subscriber(server, "counted", app=OTHER) as two:
                    assert two.wait_for("pusher_internal:subscription_count")["data"] == {
                        "subscription_count": 2
                    }


def test_a_receiver_that_fails_and_hangs_gets_everything_later(
    server: CableServer, receiver: WebhookReceiver
) -> None:
    refused = len(receiver.refused)
    receiver.status = 500
    with subscriber(server, "failing", app=OTHER):
        receiver.wait_for_refused(refused + 2)
        receiver.status, receiver.is_hanging = 200, True
        receiver.wait_for_refused(refused + 3)
        receiver.is_hanging = False
    receiver.wait_until(lambda events: {"name": "channel_vacated", "channel": "failing"} in events)
    sent = [each for each in receiver.events("/all") if each["channel"] == "failing"]
    assert [each["name"] for each in wanted(sent, "channel_occupied", "channel_vacated")] == [
        "channel_occupied",
        "channel_vacated",
    ]


def test_a_server_that_stops_vacates_its_channels(receiver: WebhookReceiver) -> None:
    """And its API has a port of its own."""
    api_port = free_port()
    with cable_server(*FLAGS, other_app(receiver), f"--pusher_api_port={api_port}") as server:
        with (
            pusher_server(other={**OTHER, "port": api_port}) as library,
            subscriber(server, "presence-last", user_id="jack", app=OTHER),
        ):
            answer = library.get("/channels", "other")
            assert answer == (200, {"channels": {"presence-last": {}}})
            assert request(server, "GET", "/apps/main/channels") == (404, "Not Found")
            assert server.stop() == 0
        events = [each for each in receiver.events("/all") if each["channel"] == "presence-last"]
        names = [each["name"] for each in events if each["name"] != "subscription_count"]
        assert names.index("channel_occupied") < names.index("channel_vacated")
        assert names.index("member_added") < names.index("member_removed")
        assert len(names) == 4
        assert "events are lost" not in server.output()
