"""The REST API about the clients of a running server: every operation, and every answer to a bad request."""

import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.parts.cable_client import CableClient, confirmed, identifier, rejected
from tests.parts.rest import FLAGS, all_pages, get, identifiers, rest, sid_of, signed_in
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import token

CHAT = identifier("$pubsub", stream_name="chat/é\nroom")
STREAM = "chat/é\nroom"


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS, "--broker=memory", "--broadcast_adapter=http", "--poll") as server:
        yield server


@pytest.fixture
def ann(server: CableServer) -> Iterator[tuple[CableClient, str]]:
    client, sid = signed_in(server, "ann")
    with client:
        client.receive_welcome()
        yield client, sid
    gone(server, sid)


def gone(server: CableServer, sid: str) -> None:
    deadline = time.monotonic() + 10
    while rest(server, "GET", f"/connections/{sid}").status != 404:
        assert time.monotonic() < deadline


# Reading


def test_a_connection_is_shown(server: CableServer, ann: tuple[CableClient, str]) -> None:
    client, sid = ann
    client.subscribe(CHAT)
    [node] = get(server, "/nodes")["nodes"]
    shown = get(server, f"/connections/{sid}")
    assert shown.pop("connected_at") == pytest.approx(time.time(), abs=30)
    assert shown == {
        "sid": sid,
        "identifiers": identifiers("ann"),
        "address": "127.0.0.1",
        "path": "/cable",
        "transport": "websocket",
        "protocol": "actioncable-v1-json",
        "subscriptions": [{"identifier": CHAT, "streams": [STREAM]}],
        "node": node["node"],
    }
    [listed] = get(server, "/connections", sid=sid)["connections"]
    assert listed == {**shown, "subscriptions": 1, "connected_at": listed["connected_at"]}
    assert "jid" not in json.dumps(listed)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 2),
        ({"q": "ANN"}, 1),
        ({"q": "127.0.0.1"}, 2),
        ({"q": "no such text"}, 0),
        ({"identifiers": identifiers("ann")}, 1),
        ({"identifiers": "ann"}, 0),
        ({"address": "127.0.0.1"}, 2),
        ({"address": "127.0.0"}, 0),
        ({"path": "/cable"}, 2),
        ({"path": "/other"}, 0),
        ({"transport": "websocket"}, 2),
        ({"transport": "sse"}, 0),
        ({"protocol": "actioncable-v1-ext-json"}, 1),
        ({"identifier": CHAT}, 1),
        ({"stream": STREAM}, 1),
        ({"stream": "chat"}, 0),
        ({"since": 1}, 2),
        ({"since": 9_000_000_000}, 0),
        ({"min_subscriptions": 1}, 1),
        ({"node": "no such node"}, 0),
        ({"sid": "no such sid"}, 0),
        ({"sid": "no such sid", "q": "ann"}, 0),
    ],
)
def test_conditions(
    server: CableServer, ann: tuple[CableClient, str], query: dict[str, object], found: int
) -> None:
    client, _ = ann
    client.subscribe(CHAT)
    ben, sid = signed_in(server, "ben", subprotocols=("actioncable-v1-ext-json",))
    with ben:
        listed = get(server, "/connections", **query)
        assert len(listed["connections"]) == found
        assert get(server, "/connections/count", **query)["count"] == found
        assert listed["next"] is None
        assert listed["errors"] == []
    gone(server, sid)


def test_pages_have_each_connection_once(server: CableServer) -> None:
    clients = [signed_in(server, f"user {number}") for number in range(12)]
    everyone = sorted(sid for _, sid in clients)
    assert sorted(each["sid"] for each in all_pages(server, "/connections", "connections")) == (
        everyone
    )
    first = get(server, "/connections", limit=5)
    assert len(first["connections"]) == 5
    # The last one of the page leaves, and the cursor stays valid.
    last = first["connections"][-1]["sid"]
    leaving = next(client for client, sid in clients if sid == last)
    leaving.close()
    gone(server, last)
    rest_of_them = all_pages(server, "/connections", "connections", limit=5, after=first["next"])
    found = [each["sid"] for each in first["connections"] + rest_of_them]
    assert sorted(found) == everyone
    for client, _ in clients:
        client.close()
    for sid in everyone:
        gone(server, sid)


def test_streams_and_channels(server: CableServer, ann: tuple[CableClient, str]) -> None:
    client, _ = ann
    names = [f"room {number:02}" for number in range(12)]
    for name in names:
        client.subscribe(identifier("$pubsub", stream_name=name))
    assert get(server, "/streams", prefix="room", limit=5) == {
        "streams": [{"stream": name, "listeners": 1} for name in names[:5]],
        "next": "room 04",
        "errors": [],
    }
    listed = all_pages(server, "/streams", "streams", limit=5, prefix="room 0")
    assert [each["stream"] for each in listed] == names[:10]
    assert get(server, "/channels") == {
        "channels": [{"channel": "$pubsub", "subscriptions": 12}],
        "total": 1,
        "errors": [],
    }


def test_nodes_stats_health(server: CableServer, ann: tuple[CableClient, str]) -> None:
    [node] = get(server, "/nodes")["nodes"]
    assert node["self"] is True
    assert (node["connections"], node["worker"]) == (1, 0)
    assert node["pid"] == server.process.pid
    stats = get(server, "/stats")
    assert stats["sum"] == stats["nodes"][0]["figures"]
    assert stats["sum"]["clients_num"] == 1
    assert stats["nodes"][0]["node"] == node["node"]
    checks = get(server, "/health")["checks"]
    assert "broker" in {each["name"] for each in checks}


def test_a_history_from_its_end_to_its_beginning(server: CableServer) -> None:
    def publish(*numbers: int) -> None:
        batch = [{"stream": STREAM, "data": str(number)} for number in numbers]
        assert rest(server, "POST", "/publish", batch).status == 201

    path = f"/history/{quote(STREAM, safe='')}"
    publish(*range(10))
    newest = get(server, path, order="newest", limit=4)
    assert [each["data"] for each in newest["messages"]] == ["9", "8", "7", "6"]
    assert newest["more"] is True
    publish(10, 11)
    found = list(newest["messages"])
    page = newest
    while page["next"] is not None:
        page = get(server, path, order="newest", limit=4, before=page["next"])
        found += page["messages"]
    assert [each["data"] for each in found] == [str(number) for number in reversed(range(10))]
    assert page["more"] is False
    oldest = f"{found[-1]['offset']}:{newest['epoch']}"
    assert get(server, path, order="newest", before=oldest)["messages"] == []
    assert rest(server, "GET", path, order="newest", before="5:other").status == 410
    assert rest(server, "GET", path, order="newest", before="5").status == 422
    assert rest(server, "GET", path, before=oldest).status == 422
    assert rest(server, "GET", path, order="newest", since=1).status == 422
    assert rest(server, "GET", path, order="sideways").status == 422


# Acting


def test_disconnect_by_sid(server: CableServer) -> None:
    for way in ("path", "body"):
        client, sid = signed_in(server, way)
        with client:
            client.receive_welcome()
            answer = (
                rest(server, "DELETE", f"/connections/{sid}", reconnect="false")
                if way == "path"
                else rest(server, "POST", "/disconnect", {"sid": sid, "reconnect": False})
            )
            assert (answer.status, answer.content) == (200, {"disconnected": 1})
            expected = {"type": "disconnect", "reason": "remote", "reconnect": False}
            assert client.receive() == expected
        gone(server, sid)
        assert rest(server, "DELETE", f"/connections/{sid}").status == 404


def test_disconnect_by_identifiers(server: CableServer) -> None:
    client, _ = signed_in(server, "eve")
    with client:
        client.receive_welcome()
        answer = rest(server, "POST", "/disconnect", {"identifiers": identifiers("eve")})
        assert (answer.status, answer.content) == (202, {"disconnected": None})
        assert client.receive()["reconnect"] is True


def test_subscribe_and_unsubscribe(server: CableServer, ann: tuple[CableClient, str]) -> None:
    client, sid = ann
    path = f"/connections/{sid}/subscriptions"
    answer = rest(server, "POST", path, {"identifier": CHAT})
    assert (answer.status, answer.content) == (
        200,
        {"identifier": CHAT, "subscribed": True, "changed": True},
    )
    assert client.receive() == confirmed(CHAT)
    assert rest(server, "POST", path, {"identifier": CHAT}).content["changed"] is False
    assert get(server, "/connections/count", stream=STREAM)["count"] == 1
    answer = rest(server, "DELETE", path, {"identifier": CHAT})
    assert (answer.status, answer.content["subscribed"]) == (200, False)
    assert get(server, "/connections/count", stream=STREAM)["count"] == 0
    wrong = identifier("$pubsub", signed_stream_name="forged")
    answer = rest(server, "POST", path, {"identifier": wrong})
    assert (answer.status, answer.content) == (409, {"error": "the subscription was rejected"})
    assert client.receive() == rejected(wrong)


# Bad requests


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/connections?limit=0", None, 422, "limit: expected `int` >= 1"),
        ("GET", "/connections?limit=many", None, 422, "limit: expected `int`, got `str`"),
        ("GET", "/connections?after=%00", None, 422, "after: expected next of another page"),
        ("GET", "/connections?after=abcd", None, 422, "after: expected next of another page"),
        ("GET", "/connections?pages=1", None, 422, "object contains unknown field `pages`"),
        ("GET", "/connections/count?limit=1", None, 422, "unknown field `limit`"),
        ("GET", "/connections/no-such-sid", None, 404, "no such connection"),
        ("GET", "/connections/a%2Fb%0Ac%FF", None, 404, "no such connection"),
        ("GET", "/connections/", None, 404, "expected a sid in the path"),
        ("DELETE", "/connections/no-such-sid", None, 404, "no such connection"),
        ("DELETE", "/connections/x?reconnect=perhaps", None, 422, "reconnect: expected `bool`"),
        ("PUT", "/connections/x", None, 405, "expected DELETE, GET, got PUT"),
        ("POST", "/connections", {}, 405, "expected GET, got POST"),
        ("HEAD", "/nodes", None, 405, None),
        ("POST", "/connections/x/subscriptions", b"{", 422, "the body: "),
        ("POST", "/connections/x/subscriptions", b"\xff", 422, "the body: "),
        ("POST", "/connections/x/subscriptions", b"[" * 60_000, 422, "the body: "),
        ("POST", "/connections/x/subscriptions", {}, 422, "missing required field `identifier`"),
        ("POST", "/connections/x/subscriptions", {"identifier": 1}, 422, "the body: identifier: "),
        ("POST", "/connections/x/subscriptions", {"identifier": ""}, 422, "identifier: expected"),
        ("POST", "/connections/x/subscriptions", {"identifier": "a"}, 404, "no such connection"),
        ("POST", "/disconnect", b" " * 70_000, 413, None),
        ("POST", "/disconnect", {}, 422, "expected either identifiers or sid"),
        ("POST", "/disconnect", {"sid": "a", "identifiers": "b"}, 422, "expected either"),
        ("POST", "/disconnect", {"sid": "a", "reconnect": 1}, 422, "reconnect: expected `bool`"),
        ("GET", "/streams?limit=1001", None, 422, "limit: expected `int` <= 1000"),
        ("GET", "/publish", None, 422, "expected POST, got GET"),
        ("POST", "/history/a", None, 422, "expected GET, got POST"),
    ],
)
def test_bad_requests(
    server: CableServer, method: str, path: str, body: object, *, status: int, error: str | None
) -> None:
    answer = rest(server, method, path, body)
    assert answer.status == status
    if error is not None:
        assert error in answer.content["error"]
    if status == 405:
        assert "GET" in answer.headers["allow"]


def test_nothing_without_the_key(server: CableServer) -> None:
    paths = get(server, "/openapi.json")["paths"]
    assert len(paths) >= 14
    for path, methods in paths.items():
        for method in methods:
            for key in ("", "wrong"):
                named = path.replace("{sid}", "x").replace("{stream}", "x")
                answer = rest(server, method.upper(), named, key=key)
                assert (answer.status, path) == (401, path)
                assert answer.content == {"error": "expected Authorization: Bearer with the key"}


def test_names_are_read_before_they_are_decoded(server: CableServer) -> None:
    sid = "a/subscriptions"
    text = quote(sid, safe="")
    client = CableClient(
        server.cable_url, headers={"X-Request-ID": sid, "X-JID": token_of("slash")}
    )
    with client:
        client.receive_welcome()
        assert sid_of(server, "slash") == sid
        assert get(server, f"/connections/{text}")["sid"] == sid
        assert rest(server, "DELETE", f"/connections/{text}").status == 200


def token_of(user: str) -> str:
    return token({"ext": identifiers(user), "exp": int(time.time()) + 60})


# The log


def test_operations_that_change_something_are_logged(
    server: CableServer, ann: tuple[CableClient, str]
) -> None:
    client, sid = ann
    get(server, f"/connections/{sid}")
    rest(server, "DELETE", f"/connections/{sid}")
    client.receive()
    output = server.wait_for_output("operation=disconnectConnection")
    line = next(each for each in output.splitlines() if f"path=/api/connections/{sid}" in each)
    assert "remote=127.0.0.1" in line
    assert "status=200" in line
    assert "operation=showConnection" not in output
