"""Writes of durable streams on real sockets: who may write, what subscribers of other protocols see, several nodes."""

import http.client
import json
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from catenary.auth.keys import API_PHRASE, derived_key
from catenary.channels.cable import Cable
from tests.parts.cable_client import CableClient, identifier
from tests.parts.cluster import redis_cluster
from tests.parts.raw_socket import RawSocket
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name
from tests.transports.test_durable_stream import Answer, ask, wait_for_figure

FLAGS = (
    *("--ds", "--ds_write", "--norpc", "--broadcast_adapter=http", "--ds_poll_interval=5"),
    *("--metrics_http=/metrics", "--ds_sse_ttl=5"),
)

PUSHER = ("--pusher_app_id=app", "--pusher_app_key=key", "--pusher_secret=hidden")


def send(
    server: CableServer, method: str, target: str, body: bytes = b"", **headers: str
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/ds/{target}", body, fields)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer


def create(server: CableServer, target: str, kind: str = "application/json") -> None:
    assert send(server, "PUT", target, Content_Type=kind).status == 201


def append(server: CableServer, target: str, *messages: object) -> None:
    body = json.dumps(messages).encode()
    assert send(server, "POST", target, body, Content_Type="application/json").status == 204


def publish(server: CableServer, stream: str, message: object) -> None:
    body = json.dumps({"stream": stream, "data": json.dumps(message)}).encode()
    urllib.request.urlopen(server.broadcast_url, body, timeout=5).close()


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(
        *FLAGS, *PUSHER, "--public", "--broker=memory", "--history_limit=1000"
    ) as server:
        yield server


def test_what_is_appended_is_a_publication_and_what_is_published_is_read(
    server: CableServer,
) -> None:
    create(server, "both")
    with CableClient(server.cable_url) as client:
        client.receive_welcome()
        name = identifier("$pubsub", stream_name="both")
        client.subscribe(name)
        append(server, "both", {"n": 1}, {"n": 2})
        publish(server, "both", {"n": 3})
        for number in (1, 2, 3):
            assert client.receive()["message"] == {"n": number}
    assert json.loads(ask(server, "both").body) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_stream_that_others_publish_to_exists(server: CableServer) -> None:
    assert ask(server, "unknown").status == ask(server, "unknown", "HEAD").status == 404
    publish(server, "unknown", 1)
    assert ask(server, "unknown").body == b"[1]"
    assert ask(server, "unknown", "HEAD").headers["Content-Type"] == "application/json"
    assert send(server, "DELETE", "unknown").status == 204
    assert ask(server, "unknown").status == 404


def test_bytes_are_read_as_they_were_written_and_seen_in_base64(server: CableServer) -> None:
    create(server, "bytes", "application/octet-stream")
    with CableClient(server.cable_url) as client:
        client.receive_welcome()
        client.subscribe(identifier("$pubsub", stream_name="bytes"))
        sent = send(server, "POST", "bytes", b"\x00\xff", Content_Type="application/octet-stream")
        assert sent.status == 204
        assert client.receive()["message"] == {"base64": "AP8="}
    read = ask(server, "bytes")
    assert (read.body, read.headers["Content-Type"]) == (b"\x00\xff", "application/octet-stream")


def test_a_stream_that_is_created_again_shows_nothing_of_the_old_one(server: CableServer) -> None:
    create(server, "again")
    append(server, "again", "old")
    old = ask(server, "again", "HEAD").next
    assert send(server, "DELETE", "again").status == 204
    assert send(server, "DELETE", "again").status == 404
    create(server, "again", "text/plain")
    assert (ask(server, "again").body, ask(server, "again").next) == (b"", "0")
    assert send(server, "POST", "again", b"new", Content_Type="text/plain").status == 204
    read = ask(server, "again?offset=-1")
    assert read.body == b"new"
    assert read.next > old


def test_readers_that_wait_are_told_that_a_stream_is_closed_or_deleted(
    server: CableServer,
) -> None:
    for name, end, expected in (
        ("closes", ("POST", {"Stream_Closed": "true"}), b"HTTP/1.1 204 "),
        ("deletes", ("DELETE", {}), b"HTTP/1.1 404 "),
    ):
        create(server, name)
        with RawSocket(server.port) as poll, RawSocket(server.port) as events:
            for client, live in ((poll, b"long-poll"), (events, b"sse")):
                target = f"/ds/{name}?offset=now&live=".encode() + live
                client.send(b"GET " + target + b" HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            wait_for_figure(server, "ds_poll_clients_num", 1)
            wait_for_figure(server, "ds_sse_clients_num", 1)
            assert send(server, end[0], name, **end[1]).status == 204  # type: ignore[arg-type]
            answered = poll.wait_for_end(2)
            assert answered.startswith(expected)
            ended = events.wait_for_end(2)
            assert (b'"streamClosed":true' in ended) is (b"Stream-Closed: true" in answered)
            assert (b'"streamClosed":true' in ended) is (name == "closes")


def test_a_body_that_is_too_large_is_refused_and_read(server: CableServer) -> None:
    create(server, "large", "text/plain")
    refused = send(server, "POST", "large", b"x" * 8_000_000, Content_Type="text/plain")
    assert refused.status == 413


def test_a_writer_needs_the_key_of_the_api_or_a_signature_for_writing() -> None:
    secret = ("--broker=memory", f"--secret={SECRET}", "--noauth", "--public_streams")
    key = f"Bearer {derived_key(SECRET, API_PHRASE)}"
    write = Cable(channels=(), secret=SECRET).signed_stream_name("room/1", write=True)
    with cable_server(*FLAGS, *secret) as server:
        for target, headers, expected in (
            ("room/1", {}, 401),
            ("room/1", {"Authorization": "Bearer x"}, 401),
            (f"room/1?signed={signed_name('room/1')}", {}, 401),
            (f"room/2?signed={write}", {}, 401),
            ("room/1", {"Authorization": key}, 201),
            (f"room/1?signed={write}", {}, 200),
            ("room/1", {"X_Signed": write}, 200),
        ):
            assert send(server, "PUT", target, b"", **headers).status == expected, (target, headers)
        # A signature for writing is none for reading, where streams need one.
    with cable_server(*FLAGS, *secret[:3]) as server:
        assert send(server, "PUT", "room/1", X_Signed=write).status == 201
        assert ask(server, f"room/1?signed={write}").status == 401
        assert ask(server, f"room/1?signed={signed_name('room/1')}").status == 200


@pytest.mark.parametrize(
    "name", ["private-orders", "presence-room", "%23server-to-user-1", "%00internal"]
)
def test_without_a_key_nobody_writes_what_nobody_reads_without_a_signature(
    server: CableServer, name: str
) -> None:
    kind = {"Content_Type": "text/plain"}
    assert ask(server, name).status == 401
    assert send(server, "PUT", name, b"x", **kind).status == 401
    assert send(server, "POST", name, b"x", **kind).status == 401
    assert send(server, "DELETE", name).status == 401


def test_producers_at_several_nodes_append_each_request_once() -> None:
    with redis_cluster(2, *FLAGS[:2], *FLAGS[4:]) as cluster:
        first, second = cluster.nodes
        create(first, "many")
        answers: list[int] = []

        def write(node: CableServer, name: str) -> None:
            for seq in range(20):
                sent = send(
                    node,
                    "POST",
                    "many",
                    json.dumps(f"{name}{seq}").encode(),
                    Content_Type="application/json",
                    Producer_Id=name,
                    Producer_Epoch="0",
                    Producer_Seq=str(seq),
                )
                answers.append(sent.status)

        writers = [
            threading.Thread(target=write, args=(node, name))
            for node, name in ((first, "a"), (second, "a"), (first, "b"), (second, "c"))
        ]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        read = json.loads(ask(second, "many").body)
        assert set(answers) <= {200, 204}
        assert sorted(read) == sorted(f"{name}{seq}" for name in "abc" for seq in range(20))
        for name in "abc":
            assert [each for each in read if each[0] == name] == [f"{name}{n}" for n in range(20)]


def test_readers_at_another_node_are_told_that_a_stream_is_closed() -> None:
    with redis_cluster(2, *FLAGS[:2], *FLAGS[4:]) as cluster:
        first, second = cluster.nodes
        create(first, "closes")
        with RawSocket(second.port) as client:
            client.send(b"GET /ds/closes?offset=-1&live=sse HTTP/1.1\r\nHost: t\r\n\r\n")
            wait_for_figure(second, "ds_sse_clients_num", 1)
            body = b'["last"]'
            headers = {"Content_Type": "application/json", "Stream_Closed": "true"}
            assert send(first, "POST", "closes", body, **headers).status == 204
            ended = client.wait_for_end()
        assert b'data:["last"]' in ended
        assert b'"streamClosed":true' in ended
