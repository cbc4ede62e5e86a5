"""A cable in other servers: uvicorn, hypercorn, Starlette's test client."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import InvalidStatus

from catenary import Cable
from catenary.errors import ConfigError
from catenary.metrics.counters import Counters
from catenary.server.mounted import Mounted
from tests.parts.asgi_host import AsgiHost, Kind, asgi_host
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.raw_socket import RawSocket, command
from tests.parts.redis import RedisServer, redis_server
from tests.server.mounted_chat import mirror

MIRROR = identifier("MirrorChannel")
EXTENDED = "actioncable-v1-ext-json"


def counters(mounted: Mounted) -> Counters:
    assert mounted._hosted is not None
    return mounted._hosted.edge.counters


def welcomed(host: AsgiHost, query: str = "", **options: object) -> CableClient:
    client = CableClient(f"{host.cable_url}?{query}", **options)  # type: ignore[arg-type]
    client.receive_welcome()
    return client


def mounted_at_cable(cable: Cable, **options: object) -> FastAPI:
    app = FastAPI(lifespan=cable.lifespan)
    app.mount("/cable", cable.asgi(**options))
    return app


@pytest.fixture(scope="module")
def host() -> Iterator[AsgiHost]:
    app = mounted_at_cable(
        mirror(),
        broker="memory",
        headers="cookie,x-token",
        max_message_size=1000,
    )
    with asgi_host(app) as host:
        yield host


# The handshake


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("actioncable-v1-json", "actioncable-unsupported"), "actioncable-v1-json"),
        ((EXTENDED,), EXTENDED),
        (("mqtt", "actioncable-unsupported"), "actioncable-unsupported"),
        (("mqtt",), None),
        ((), None),
    ],
)
def test_subprotocols(host: AsgiHost, offered: tuple[str, ...], chosen: str | None) -> None:
    with welcomed(host, subprotocols=offered) as client:
        assert client.connection.subprotocol == chosen


def test_origins() -> None:
    app = mounted_at_cable(mirror(), allowed_origins=("*.example.com",))
    with asgi_host(app) as host:
        welcomed(host, origin="https://www.example.com").close()
        with pytest.raises(InvalidStatus) as refused:
            welcomed(host, origin="https://example.org")
    answer = refused.value.response
    assert (answer.status_code, answer.body) == (403, b"expected an allowed origin\n")


def test_as_many_clients_as_may_be() -> None:
    cable = mirror()
    with asgi_host(mounted_at_cable(cable, max_conn=1)) as host:
        with welcomed(host):
            with pytest.raises(InvalidStatus) as refused:
                welcomed(host)
            answer = refused.value.response
            assert answer.status_code == 503
            assert 5 <= int(answer.headers["retry-after"]) <= 15
            assert counters(cable.asgi()).refused_connections_total == 1
        while counters(cable.asgi()).open_connections_num:
            time.sleep(0.01)
        welcomed(host).close()


def test_a_plain_request_is_told_what_is_expected(host: AsgiHost) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{host.url}/cable/", timeout=20)
    refused.value.close()
    assert (refused.value.code, refused.value.headers["upgrade"]) == (426, "websocket")


def test_what_the_application_knows_of_a_client(host: AsgiHost) -> None:
    headers = {"Cookie": "a=b", "X-Token": "t", "X-Hidden": "h"}
    with welcomed(host, "name=j%20k", headers=headers) as client:
        assert client.subscribe(MIRROR) == confirmed(MIRROR)
        client.perform(MIRROR, "look")
        assert client.receive()["message"] == {
            "url": f"{host.url}/cable/?name=j%20k",
            "cookie": "b",
            "token": "t",
            "hidden": None,
            "remote_addr": "127.0.0.1",
            "session": None,
            "state": ["cable"],
            "asgi": True,
        }


def test_the_host_s_session_and_another_path_than_a_mount_s() -> None:
    cable = mirror()
    app = FastAPI(
        routes=[WebSocketRoute("/cable", cable.asgi())],
        middleware=[Middleware(SessionMiddleware, secret_key="s3cret")],
    )

    @app.post("/login")
    async def login(request: Request) -> Response:
        request.session["user"] = 7
        return Response()

    with asgi_host(app) as host:
        with urllib.request.urlopen(f"{host.url}/login", b"", timeout=20) as answer:
            cookie = answer.headers["set-cookie"].partition(";")[0]
        url = host.cable_url.removesuffix("/")
        with CableClient(url, headers={"Cookie": cookie}) as client:
            client.receive_welcome()
            client.subscribe(MIRROR)
            client.perform(MIRROR, "look")
            assert client.receive()["message"]["session"] == {"user": 7}


# Messages


def test_pings_come_as_they_are_asked_for(host: AsgiHost) -> None:
    with welcomed(host, "pi=1&ptp=ms") as client:
        ping = client.receive_any()
        assert ping["type"] == "ping"
        assert abs(ping["message"] / 1000 - time.time()) < 5


def test_a_client_that_does_not_answer_pings() -> None:
    with (
        asgi_host(mounted_at_cable(mirror(), pong_timeout=1)) as host,
        welcomed(host, "pi=1", subprotocols=(EXTENDED,)) as client,
    ):
        assert client.receive()["reason"] == "no_pong"
        assert client.wait_for_close() == (1000, "No Pong")


def test_bytes_are_read_as_text_is(host: AsgiHost) -> None:
    with welcomed(host) as client:
        client.send_raw(b'{"command":"ping"}')
        assert client.receive() == {"type": "pong"}


def test_a_message_that_is_too_long(host: AsgiHost) -> None:
    with welcomed(host) as client:
        client.subscribe(MIRROR)
        client.perform(MIRROR, "say", text="x" * 700)
        assert client.receive()["message"] == "x" * 700
        client.send_raw("x" * 1001)
        assert client.wait_for_close() == (1009, "expected a message of up to 1000 bytes")


def test_what_is_published_together_arrives_one_by_one() -> None:
    """The hub joins what travels together."""
    cable = mirror()
    with asgi_host(mounted_at_cable(cable)) as host, welcomed(host) as client:
        client.subscribe(MIRROR)

        async def publish() -> None:
            with cable.batch():
                for number in range(300):
                    cable.broadcast("news", {"ü": number})

        host.run(publish())
        for number in range(300):
            assert client.receive() == delivered(MIRROR, {"ü": number})


def test_a_client_that_says_more_than_it_waits_for_is_not_read() -> None:
    cable = mirror()
    with asgi_host(mounted_at_cable(cable)) as host, welcomed(host) as client:
        client.subscribe(MIRROR)
        client.perform(MIRROR, "wait", s=0.3)
        for number in range(200):
            client.perform(MIRROR, "say", text=str(number))
        assert client.receive()["message"] == "waited"
        for number in range(200):
            assert client.receive()["message"] == str(number)
        assert counters(cable.asgi()).held_clients_total >= 1


@pytest.mark.parametrize("reads_after_all", [False, True])
def test_a_client_that_does_not_read_is_sent_away_and_cut_off(reads_after_all: bool) -> None:
    cable = mirror()
    app = mounted_at_cable(cable, ws_max_pending_size=100_000, ws_write_timeout=1)
    with (
        asgi_host(app, ws_per_message_deflate=False) as host,
        RawSocket(host.port, receive_buffer=4096) as slow,
        welcomed(host) as quick,
    ):
        slow.open("/cable/").send(command("subscribe", MIRROR))
        assert slow.message()["type"] == "confirm_subscription"
        quick.subscribe(MIRROR)
        figures = counters(cable.asgi())

        async def publish() -> None:
            await cable.broadcast("news", "x" * 50_000)

        # The kernel takes some megabytes before anything waits in the server.
        for _ in range(500):
            host.run(publish())
            assert quick.receive()["message"] == "x" * 50_000
            if figures.disconnected_slow_clients_total:
                break
        if reads_after_all:
            last = slow.message()
            while "message" in last:
                last = slow.message()
            assert last == {"type": "disconnect", "reason": "too_slow", "reconnect": True}
            assert slow.goodbye() == (1000, b"Slow client")
            slow.socket.close()
        deadline = time.monotonic() + 30
        while figures.open_connections_num > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (figures.disconnected_slow_clients_total, figures.open_connections_num) == (1, 1)
        quick.expect_nothing()


# Its life


def test_the_first_clients_start_it_and_its_end_tells_them() -> None:
    cable = mirror()
    with asgi_host(mounted_at_cable(cable), lifespan="off") as host:
        with ThreadPoolExecutor(4) as pool:
            clients = list(pool.map(lambda _: welcomed(host), range(4)))
        assert counters(cable.asgi()).open_connections_num == 4

        async def end() -> None:
            async with cable.running():
                pass

        host.run(end())
        for client in clients:
            goodbye = {"type": "disconnect", "reason": "server_restart", "reconnect": True}
            assert client.receive() == goodbye
            assert client.wait_for_close() == (1001, "Server restart")
            client.close()
        # A second run.
        welcomed(host).close()


@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn"])
def test_a_host_of_nothing_else_tells_it_when(kind: Kind) -> None:
    cable = mirror()
    with asgi_host(cable.asgi(), kind) as host:
        assert cable.asgi()._hosted is not None
        with welcomed(host) as client:
            client.subscribe(MIRROR)

            async def publish() -> None:
                await cable.broadcast("news", "hello")

            host.run(publish())
            assert client.receive() == delivered(MIRROR, "hello")
            client.send_raw("x" * 70_000)
            assert client.wait_for_close()[0] == 1009
    assert cable.asgi()._hosted is None


def test_starlette_s_test_client_and_one_loop_after_the_other() -> None:
    cable = mirror()
    app = mounted_at_cable(cable)
    for _ in range(2):
        with TestClient(app) as client, client.websocket_connect("/cable/?name=ann") as socket:
            assert socket.receive_json()["type"] == "welcome"
            socket.send_json({"command": "subscribe", "identifier": MIRROR})
            assert socket.receive_json() == confirmed(MIRROR)
            cable.broadcast("news", "hello")
            assert socket.receive_json() == delivered(MIRROR, "hello")


def test_two_loops_at_once_are_refused() -> None:
    cable = mirror()
    app = mounted_at_cable(cable)
    with asgi_host(app) as host:
        bare = TestClient(app)
        with pytest.raises(WebSocketDisconnect), bare.websocket_connect("/cable/"):
            pass
        with pytest.raises(ConfigError, match="expected one loop"), TestClient(app):
            pass
        welcomed(host).close()


def test_nodes_of_several_hosts_share_what_is_published(redis: RedisServer) -> None:
    cables = [mirror(), mirror()]
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(
                asgi_host(mounted_at_cable(each, pubsub="redis", redis_url=redis.url))
            )
            for each in cables
        ]
        clients = [stack.enter_context(welcomed(each)) for each in hosts]
        for client in clients:
            assert client.subscribe(MIRROR) == confirmed(MIRROR)

        async def publish() -> None:
            await cables[0].broadcast("news", "hello")

        hosts[0].run(publish())
        for client in clients:
            assert client.receive() == delivered(MIRROR, "hello")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


# Options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"brokr": "memory"}, "unknown option brokr; did you mean broker?"),
        ({"broker": "paper"}, "broker: expected one of none, memory, nats, redis, got 'paper'"),
        ({"max_conn": "many"}, "max_conn: expected a whole number of at least 0, got 'many'"),
        ({"port": 80}, "port: expected no option of the server that hosts the cable"),
        ({"broadcast_adapter": "http"}, "expected redis, redisx or nats, got http"),
        ({"jwt_secret": 5}, "jwt_secret: expected text, got a value of type int (not shown)"),
    ],
)
def test_options_that_can_not_be(options: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        mirror().asgi(**options)
    assert expected in str(refused.value)


def test_the_environment_counts_as_far_as_it_concerns_the_cable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANYCABLE_BROKER", "memory")
    monkeypatch.setenv("ANYCABLE_WORKERS", "4")
    monkeypatch.setenv("ANYCABLE_MAX_CONN", "7")
    options = mirror().asgi(max_conn=8)._options
    assert (options.broker.adapter, options.server.workers) == ("memory", 1)
    assert options.server.max_conn == 8
    assert options.broadcast.adapters == ()


def test_one_mount_for_each_cable() -> None:
    cable = mirror()
    mounted = cable.asgi(broker="memory")
    assert cable.asgi() is mounted
    with pytest.raises(ConfigError, match="got a second"):
        cable.asgi(broker="memory")


def test_importing_a_cable_is_cheap() -> None:
    code = "import sys, catenary; catenary.Cable; print([m for m in sys.modules if m.split('.')[0] in ('uvicorn', 'starlette', 'httptools', 'fastapi')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout == "[]\n", done.stderr
