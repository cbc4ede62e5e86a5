"""Reads of durable streams on real sockets: statuses, headers, offsets, what a slow or missing client costs."""

import http.client
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.clients.test_recovery import Publisher
from tests.parts.grpc_app import grpc_server
from tests.parts.raw_socket import RawSocket
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name, token
from tests.server.test_figures import scrape

DS = ("--ds", "--norpc", "--broadcast_adapter=http", "--broker=memory")
FLAGS = (*DS, "--public", "--ds_poll_interval=1", "--ds_sse_ttl=1", "--metrics_http=/metrics")


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def next(self) -> str:
        return self.headers["Stream-Next-Offset"]


def ask(server: CableServer, target: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/ds/{target}", headers=fields)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        yield server


@pytest.fixture(scope="module")
def publisher(server: CableServer) -> Iterator[Publisher]:
    publisher = Publisher(server)
    yield publisher
    publisher.close()


def wait_for_figure(server: CableServer, name: str, value: int, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while scrape(server.port)[name] != value:
        assert time.monotonic() < deadline, name


def test_an_empty_stream_has_an_end_to_wait_at(server: CableServer) -> None:
    read = ask(server, "empty")
    assert (read.status, read.body, read.next) == (200, b"[]", "0")
    assert read.headers["Stream-Up-To-Date"] == "true"
    head = ask(server, "empty", "HEAD")
    assert (head.status, head.body, head.next) == (200, b"", "0")
    assert head.headers["Cache-Control"] == "no-store"


def test_offsets_lead_on_and_are_sorted_as_text(server: CableServer, publisher: Publisher) -> None:
    offsets = ["0"]
    for number in range(11):
        publisher.publish("sorted", number)
        read = ask(server, f"sorted?offset={offsets[-1]}")
        assert read.body == b"[%d]" % number
        offsets.append(read.next)
    assert sorted(offsets) == offsets
    assert len(set(offsets)) == len(offsets)
    assert ask(server, "sorted", "HEAD").next == offsets[-1]


def test_a_message_is_read_as_the_json_that_was_published(server: CableServer) -> None:
    for data in ("null", '{\n "a": 1\n}', "no JSON", '"text"'):
        body = json.dumps({"stream": "texts", "data": data}).encode()
        urllib.request.urlopen(server.broadcast_url, body, timeout=5).close()
    assert json.loads(ask(server, "texts").body) == [None, {"a": 1}, "no JSON", "text"]
    events = ask(server, "texts?offset=-1&live=sse").body.decode()
    assert 'event: data\ndata:[null,{\ndata:  "a": 1\ndata:},"no JSON","text"]\n\n' in events


def test_a_read_is_cached_by_its_tag(server: CableServer, publisher: Publisher) -> None:
    publisher.publish("cached", 1)
    first = ask(server, "cached?offset=-1")
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"].startswith("public, ")
    again = ask(server, "cached?offset=-1", If_None_Match=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    publisher.publish("cached", 2)
    changed = ask(server, "cached?offset=-1", If_None_Match=tag)
    assert (changed.status, changed.body) == (200, b"[1,2]")
    assert changed.headers["ETag"] != tag
    now = ask(server, "cached?offset=now")
    assert (now.body, now.headers["ETag"], now.headers["Cache-Control"]) == (
        b"[]",
        None,
        "no-store",
    )


@pytest.mark.parametrize(
    "query",
    [
        "offset=",
        "offset=1,2",
        "offset=1 2".replace(" ", "%20"),
        "offset=1&offset=2",
        "live=sse",
        "live=long-poll",
        "offset=-1&live=x",
        "&".join(f"a{number}=1" for number in range(200)),
    ],
)
def test_a_query_that_means_nothing_is_refused(server: CableServer, query: str) -> None:
    assert ask(server, f"news?{query}").status == 400


def test_names_are_decoded_and_have_a_limit(server: CableServer, publisher: Publisher) -> None:
    publisher.publish("Räume/1 2", "there")
    assert ask(server, "R%C3%A4ume/1%202").body == b'["there"]'
    assert ask(server, "%ff").status == 400
    assert ask(server, "").status == 400
    assert ask(server, "x" * 10_000).status == 400


def test_what_is_no_read_is_not_allowed(server: CableServer) -> None:
    for method in ("PUT", "POST", "DELETE"):
        refused = ask(server, "news", method)
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    preflight = ask(server, "news", "OPTIONS", Origin="https://example.com")
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://example.com"
    assert "If-None-Match" in preflight.headers["Access-Control-Allow-Headers"]
    assert "Stream-Next-Offset" in preflight.headers["Access-Control-Expose-Headers"]


def test_a_position_of_another_epoch_is_gone(server: CableServer) -> None:
    for offset in ("00000000000000000001_other", "1::other"):
        for live in ("", "&live=sse", "&live=long-poll"):
            assert ask(server, f"news?offset={offset}{live}").status == 410


def test_cursors_go_on(server: CableServer) -> None:
    now = ask(server, "cursors").headers["Stream-Cursor"]
    later = ask(server, f"cursors?offset=now&live=long-poll&cursor={int(now) + 5}")
    assert later.status == 204
    assert int(later.headers["Stream-Cursor"]) > int(now) + 5


def test_a_reader_waits_without_a_message_and_gets_the_next(
    server: CableServer, publisher: Publisher
) -> None:
    before = scrape(server.port)
    with RawSocket(server.port) as client:
        client.send(
            b"GET /ds/waited?offset=now&live=long-poll HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
        )
        wait_for_figure(server, "ds_poll_clients_num", 1)
        publisher.publish_all("waited", [1, 2])
        assert b"[1,2]" in client.wait_for_end()
    wait_for_figure(server, "ds_poll_clients_num", 0)
    after = scrape(server.port)
    assert after["ds_poll_requests_total"] == before["ds_poll_requests_total"] + 1
    assert after["ds_requests_total"] == before["ds_requests_total"] + 1


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_a_reader_that_leaves_is_forgotten(server: CableServer, live: str) -> None:
    name = f"ds_{live.removeprefix('long-')}_clients_num"
    with RawSocket(server.port) as client:
        client.send(b"GET /ds/left?offset=now&live=%b HTTP/1.1\r\nHost: t\r\n\r\n" % live.encode())
        wait_for_figure(server, name, 1)
    wait_for_figure(server, name, 0)
    wait_for_figure(server, "open_connections_num", 0)


def test_a_connection_serves_one_read_after_the_other(
    server: CableServer, publisher: Publisher
) -> None:
    publisher.publish("kept", 1)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for method, query, expected in (
        ("GET", "offset=-1", (200, b"[1]")),
        ("HEAD", "", (200, b"")),
        ("GET", "offset=now&live=long-poll", (204, b"")),
        ("GET", "offset=-1", (200, b"[1]")),
        ("GET", "offset=now&live=long-poll", (200, b"[2]")),
    ):
        connection.request(method, f"/ds/kept?{query}")
        if expected[1] == b"[2]":
            wait_for_figure(server, "ds_poll_clients_num", 1)
            publisher.publish("kept", 2)
        response = connection.getresponse()
        assert (response.status, response.read()) == expected
        assert response.headers["Connection"] is None
        if method == "GET":
            port = connection.sock.getsockname()
    assert connection.sock.getsockname() == port, "one connection"
    connection.close()
    wait_for_figure(server, "open_connections_num", 0)


def test_a_client_that_does_not_wait_for_its_response_is_closed_after_it(
    server: CableServer,
) -> None:
    with RawSocket(server.port) as client:
        client.send(b"GET /ds/x?offset=now&live=long-poll HTTP/1.1\r\nHost: t\r\n\r\n")
        wait_for_figure(server, "ds_poll_clients_num", 1)
        client.send(b"GET /ds/x HTTP/1.1\r\nHost: t\r\n\r\n")
        received = client.wait_for_end()
    assert received.startswith(b"HTTP/1.1 204 ")
    assert received.count(b"HTTP/1.1 ") == 1


def test_an_event_stream_in_http_1_0_ends_with_the_connection(
    server: CableServer, publisher: Publisher
) -> None:
    publisher.publish("old", 1)
    with RawSocket(server.port) as client:
        client.send(b"GET /ds/old?offset=-1&live=sse HTTP/1.0\r\nHost: t\r\n\r\n")
        head, _, events = client.wait_for_end().partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert events.startswith(b"event: data\ndata:[1]\n\nevent: control\ndata:{")


def test_readers_are_answered_when_the_server_stops() -> None:
    with (
        cable_server(*DS, "--public", "--metrics_http=/metrics") as server,
        RawSocket(server.port) as poll,
        RawSocket(server.port) as events,
    ):
        poll.send(b"GET /ds/x?offset=now&live=long-poll HTTP/1.1\r\nHost: t\r\n\r\n")
        events.send(b"GET /ds/x?offset=now&live=sse HTTP/1.1\r\nHost: t\r\n\r\n")
        wait_for_figure(server, "ds_poll_clients_num", 1)
        wait_for_figure(server, "ds_sse_clients_num", 1)
        assert server.stop() == 0
        assert poll.wait_for_end().startswith(b"HTTP/1.1 204 ")
        assert events.wait_for_end().endswith(b"\r\n0\r\n\r\n")


def test_a_client_that_does_not_read_its_events_is_closed() -> None:
    flags = ("--ds_sse_ttl=60", "--ws_max_pending_size=65536", "--metrics_http=/metrics")
    with cable_server(*DS, "--public", *flags) as server:
        publisher = Publisher(server)
        with RawSocket(server.port, receive_buffer=4096) as client:
            client.send(b"GET /ds/slow?offset=now&live=sse HTTP/1.1\r\nHost: t\r\n\r\n")
            wait_for_figure(server, "ds_sse_clients_num", 1)
            deadline = time.monotonic() + 20
            while scrape(server.port)["disconnected_slow_clients_total"] == 0:
                assert time.monotonic() < deadline
                publisher.publish("slow", "x" * 60_000)
        publisher.close()


def test_a_large_history_is_sent_as_it_is_read() -> None:
    """A slow reader of the past is not too slow: the next page waits for it."""
    flags = ("--ds_sse_ttl=60", "--ws_max_pending_size=65536", "--history_limit=3000")
    with cable_server(*DS, "--public", *flags) as server:
        publisher = Publisher(server)
        for _ in range(60):
            publisher.publish_all("long", ["x" * 1000] * 50)
        with RawSocket(server.port, receive_buffer=4096) as client:
            client.send(b"GET /ds/long?offset=-1&live=sse HTTP/1.0\r\nHost: t\r\n\r\n")
            received = b""
            while b'"upToDate":true' not in received:
                received += client.socket.recv(65536)
        assert received.count(b"x" * 1000) == 3000
        publisher.close()


def test_a_name_must_be_signed_and_a_client_authenticated() -> None:
    signed, jid = signed_name("room/1"), token({"ext": json.dumps({"user": 7})})
    with cable_server(*DS, f"--secret={SECRET}", "--enforce_jwt") as server:
        for target, headers, status in (
            (f"room/1?signed={signed}", {"X_JID": jid}, 200),
            ("room/1", {"X_JID": jid, "X_Signed": signed}, 200),
            (f"room/1?signed={signed}&jid={jid}", {}, 200),
            (f"room/2?signed={signed}", {"X_JID": jid}, 401),
            ("room/1", {"X_JID": jid}, 401),
            (f"room/1?signed={signed}0", {"X_JID": jid}, 401),
            (f"room/1?signed={signed}", {}, 401),
            (f"room/1?signed={signed}", {"X_JID": token({"ext": "{}", "exp": 1})}, 401),
        ):
            for method in ("GET", "HEAD"):
                answer = ask(server, target, method, **headers)
                assert answer.status == status, (target, headers)
                assert "public" not in answer.headers.get("Cache-Control", "")


def test_the_application_is_not_asked_if_only_streams_are_authorized() -> None:
    flags = ("--ds", "--broker=memory", "--ds_skip_auth", f"--streams_secret={SECRET}")
    with grpc_server() as application:
        rpc = f"--rpc_host={application.address}"
        with cable_server(*flags, rpc, "--metrics_http=/metrics") as server:
            assert ask(server, f"room/1?signed={signed_name('room/1')}").status == 200
            assert ask(server, f"room/2?signed={signed_name('room/1')}").status == 401
            assert scrape(server.port)["rpc_call_total"] == 0
            wait_for_figure(server, "open_connections_num", 0)


def test_the_application_decides_about_clients() -> None:
    flags = ("--ds", "--broker=memory", "--public_streams", "--metrics_http=/metrics")
    with (
        grpc_server() as application,
        cable_server(*flags, f"--rpc_host={application.address}") as server,
    ):
        assert ask(server, "room/1").status == 200
        assert scrape(server.port)["rpc_call_total"] >= 1
