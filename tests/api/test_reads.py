"""The REST API of a running server: authorization, and every answer.

With ``ANYCABLE_GO`` in the environment, the tests of presence run against that binary, too.
"""

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_library

from catenary.channels.http_reader import HttpReader
from catenary.messages.names import Stream
from tests.api.test_broadcast import Answer, ask, one, request
from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.nats import nats_server
from tests.parts.ports import free_port
from tests.parts.redis import redis_server
from tests.parts.server import OURS, CableServer, cable_server

SERVERS: dict[str, tuple[str, ...]] = {"catenary": OURS}
if "ANYCABLE_GO" in os.environ:
    SERVERS["anycable-go"] = (os.environ["ANYCABLE_GO"],)

SECRET = "qwerty"
KEY = hmac.new(SECRET.encode(), b"api-cable", hashlib.sha256).hexdigest()
AUTHORIZED = f"Authorization: Bearer {KEY}"
FLAGS = (
    "--noauth",
    "--public_streams",
    "--norpc",
    "--broadcast_adapter=http",
    f"--secret={SECRET}",
)
CHAT = identifier("$pubsub", stream_name="chat")


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return request(b"", AUTHORIZED, *headers, method=method, path=f"/api{path}")


def publish(body: object, *headers: str) -> bytes:
    return request(body, AUTHORIZED, *headers, path="/api/publish")


def answered(answer: Answer) -> tuple[int, Any]:
    status, _, body = answer
    return status, json.loads(body)


@pytest.fixture(scope="module", params=SERVERS)
def either(request: pytest.FixtureRequest) -> Iterator[CableServer]:
    flags = (*FLAGS, "--broker=memory")
    with cable_server(*flags, command=SERVERS[request.param]) as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS, "--broker=memory") as server:
        yield server


# As in anycable-go


def test_a_publication_reaches_clients(either: CableServer) -> None:
    with CableClient(either.cable_url) as client:
        client.receive_welcome()
        client.subscribe(CHAT)
        (first,) = ask(either.port, publish(one(1)))
        (batch,) = ask(either.port, publish([one(2), one(3)]))
        assert (first[0], batch[0]) == (201, 201)
        assert [client.receive()["message"] for _ in range(3)] == [1, 2, 3]


def test_the_key_and_the_method(either: CableServer) -> None:
    for wrong in ((), ("Authorization: Bearer wrong",), (f"Authorization: {KEY}",)):
        for path, method in (("/api/publish", "POST"), ("/api/presence/a/users", "GET")):
            ((status, _, _),) = ask(
                either.port, request(one("no"), *wrong, method=method, path=path)
            )
            assert status == 401
    assert ask(either.port, get("/publish"))[0][0] == 422
    assert ask(either.port, get("/presence/a/users", method="POST"))[0][0] == 422
    for path in ("/presence/a", "/presence//users", "/other"):
        assert ask(either.port, get(path))[0][0] == 404
    assert KEY not in either.output()


def test_a_key_that_is_not_ascii() -> None:
    key = "\u043a\u043b\u044e\u0447"
    asked = b"GET /api/presence/chat/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
    with cable_server("--noauth", "--norpc", f"--api_secret={key}", "--broker=memory") as server:
        assert ask(server.port, asked % key.encode())[0][0] == 200
        for wrong in ("schl\u00fcssel".encode(), b"schl\xfcssel", b"\xff"):
            assert ask(server.port, asked % wrong)[0][0] == 401
        reader = HttpReader(f"http://127.0.0.1:{server.port}/api", key=key)
        assert asyncio.run(reader.members(Stream("chat"))) == ()
        assert "Traceback" not in server.output()


def test_who_is_there(either: CableServer) -> None:
    (nobody,) = ask(either.port, get("/presence/nobody/users"))
    assert answered(nobody) == (200, {"type": "info", "total": 0})
    with CableClient(either.cable_url, subprotocols=("actioncable-v1-ext-json",)) as ann:
        ann.receive_welcome()
        lobby = identifier("$pubsub", stream_name="lobby")
        ann.subscribe(lobby)
        ann.send("join", identifier=lobby, presence={"id": "ann", "info": {"name": "Ann"}})
        assert ann.receive()["type"] == "presence"
        (somebody,) = ask(either.port, get("/presence/lobby/users"))
        records = [{"id": "ann", "info": {"name": "Ann"}}]
        assert answered(somebody) == (200, {"type": "info", "total": 1, "records": records})


@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
def test_where_there_is_an_api(command: tuple[str, ...], tmp_path: Path) -> None:
    """A key, a port of its own or a public server, else none at all; and 501 without a broker."""
    common = ("--norpc", "--broadcast_adapter=http")
    presence, posted = (
        request(b"", method="GET", path="/api/presence/a/users"),
        request(one(1), path="/api/publish"),
    )
    with cable_server(*common, command=command) as closed:
        assert ask(closed.port, posted)[0][0] == 404
    with cable_server(*common, "--public", command=command) as public:
        assert [each[0] for each in (ask(public.port, posted) + ask(public.port, presence))] == [
            201,
            501,
        ]
    with cable_server(*common, "--public", "--api_secret=k", command=command) as guarded:
        assert ask(guarded.port, posted)[0][0] == 401
    port = free_port()
    own = (f"--api_port={port}", "--api_path=/x")
    with cable_server(*common, *own, command=command) as apart:
        assert ask(port, request(one(1), path="/x/publish"))[0][0] == 201
        assert ask(apart.port, request(one(1), path="/x/publish"))[0][0] == 404


# Additions to anycable-go


def test_a_stream_may_have_slashes(server: CableServer) -> None:
    ask(server.port, publish(one("slash", "a/b%/users")))
    (answer,) = ask(server.port, get("/history/a%2Fb%25%2Fusers"))
    assert answered(answer)[1]["stream"] == "a/b%/users"
    assert len(answered(answer)[1]["messages"]) == 1
    assert ask(server.port, get("/presence/a%2Fb/users"))[0][0] == 200


def test_a_stream_may_have_line_breaks(server: CableServer) -> None:
    ask(server.port, publish(one("broken", "a\nb\r\n")))
    (answer,) = ask(server.port, get("/history/a%0Ab%0D%0A"))
    assert answered(answer)[1]["stream"] == "a\nb\r\n"
    assert len(answered(answer)[1]["messages"]) == 1
    assert ask(server.port, get("/presence/a%0Ab%0D%0A/users"))[0][0] == 200


def test_the_history_in_pages(server: CableServer) -> None:
    ask(server.port, *(publish(one(n, "pages")) for n in range(5)))
    status, all_of_it = answered(ask(server.port, get("/history/pages"))[0])
    assert status == 200
    assert (all_of_it["stream"], all_of_it["more"]) == ("pages", False)
    assert [each["data"] for each in all_of_it["messages"]] == ["0", "1", "2", "3", "4"]
    epoch, second = all_of_it["epoch"], all_of_it["messages"][1]["offset"]
    path = f"/history/pages?limit=2&after={second}:{epoch}"
    _, page = answered(ask(server.port, get(path))[0])
    assert page == {
        "stream": "pages",
        "epoch": epoch,
        "messages": all_of_it["messages"][2:4],
        "more": True,
    }
    _, newest = answered(ask(server.port, get("/history/pages?since=1&limit=3"))[0])
    assert newest == {**all_of_it, "messages": all_of_it["messages"][-3:]}
    assert answered(ask(server.port, get("/history/pages?limit=3"))[0])[1] == newest
    future, nothing = ask(
        server.port, get("/history/pages?since=99999999999.5"), get("/history/nothing")
    )
    assert answered(future)[1]["messages"] == answered(nothing)[1]["messages"] == []


@pytest.mark.parametrize("after", ["0:another", "999:{epoch}"])
def test_a_position_that_is_gone_is_an_error(server: CableServer, after: str) -> None:
    ask(server.port, publish(one(1, "gone")))
    epoch = answered(ask(server.port, get("/history/gone"))[0])[1]["epoch"]
    status, body = answered(
        ask(server.port, get(f"/history/gone?after={after.format(epoch=epoch)}"))[0]
    )
    assert status == 410
    assert body["error"].startswith("expected")


@pytest.mark.parametrize(
    "query",
    [
        "since=soon",
        "since=nan",
        "since=-1",
        "limit=0",
        "limit=1001",
        "limit=%C2%B2",
        "after=1",
        "after=:e",
        "after=x:e",
        "after=1:",
        "after=1:e&since=1",
    ],
)
def test_a_query_that_can_t_be_read(server: CableServer, query: str) -> None:
    status, body = answered(ask(server.port, get(f"/history/a?{query}"))[0])
    assert status == 422
    assert "expected" in body["error"]


def test_what_is_no_publication(server: CableServer) -> None:
    answers = ask(server.port, publish(b"garbage"), publish(b""), publish(one(1)))
    assert [each[0] for each in answers] == [422, 422, 201]


def test_a_body_that_is_too_large(server: CableServer) -> None:
    raw = b"x" * (16 * 1024 * 1024 + 1)
    assert ask(server.port, publish(raw))[0][0] == 413


def test_without_a_broker_nothing_is_kept() -> None:
    with cable_server(*FLAGS) as server:
        for path in ("/history/a", "/presence/a/users"):
            status, body = answered(ask(server.port, get(path))[0])
            assert status == 501
            assert "--presets=broker" in body["error"]


@pytest.mark.parametrize(
    ("origins", "allowed"), [("*.example.com", "https://a.example.com"), ("", "*")]
)
def test_pages(tmp_path: Path, origins: str, allowed: str) -> None:
    config = tmp_path / "anycable.toml"
    config.write_text(f'[api]\ncors_headers = true\ncors_hosts = "{origins}"\n')
    page = "Origin: https://a.example.com"
    with cable_server(*FLAGS, f"--config-path={config}") as server:
        preflight, posted = ask(
            server.port,
            request(b"", page, method="OPTIONS", path="/api/publish"),
            publish(one(1), page),
        )
        reading, other = ask(
            server.port,
            request(b"", page, method="OPTIONS", path="/api/presence/a/users"),
            get("/presence/a/users", "Origin: https://evil.test"),
        )
    assert [each[0] for each in (preflight, posted, reading, other)] == [200, 201, 200, 501]
    for answer in (preflight, posted, reading):
        assert answer[1]["access-control-allow-origin"] == allowed
    assert "GET" in reading[1]["access-control-allow-methods"]
    assert other[1].get("access-control-allow-origin") == (None if origins else "*")


def test_what_nodes_share() -> None:
    """Any node answers for all; and says so where what keeps it is away."""
    with redis_server() as redis:
        flags = (*FLAGS, "--broker=redis", f"--redis_url={redis.url}")
        with cable_server(*flags) as one_node, cable_server(*flags) as other:
            one_node.wait_until_it_hears_others()
            other.wait_until_it_hears_others()
            assert ask(one_node.port, publish(one("shared")))[0][0] == 201
            status, found = answered(ask(other.port, get("/history/chat"))[0])
            assert (status, [each["data"] for each in found["messages"]]) == (200, ['"shared"'])
            with redis_library.Redis(port=redis.port) as connection:
                connection.set("catenary:__anycable_internal__:log:chat", "not ours")
            (refused,) = ask(other.port, get("/history/chat"))
            assert (refused[0], "WRONGTYPE" in answered(refused)[1]["error"]) == (422, True)
            redis.stop()
            (away,) = ask(other.port, get("/history/chat"))
            assert away[0] == 503


def test_history_on_nats(tmp_path: Path) -> None:
    with nats_server(store_dir=tmp_path) as nats:
        flags = (*FLAGS, "--broker=nats", f"--nats_servers={nats.url}")
        with cable_server(*flags) as server, CableClient(server.cable_url) as client:
            server.wait_until_it_hears_others()
            client.receive_welcome()
            assert client.subscribe(CHAT) == confirmed(CHAT)
            assert ask(server.port, publish(one("kept")))[0][0] == 201
            assert client.receive()["message"] == "kept"
            status, found = answered(ask(server.port, get("/history/chat"))[0])
            assert (status, [each["data"] for each in found["messages"]]) == (200, ['"kept"'])


def test_workers_share_the_port_of_the_api() -> None:
    port = free_port()
    flags = (*FLAGS, "--workers=2", "--broker=nats", f"--api_port={port}")
    with cable_server(*flags) as server:
        server.wait_for_output("Nodes meet on NATS", times=2)
        assert ask(port, publish(one(1)))[0][0] == 201
