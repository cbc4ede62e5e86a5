"""Long polling of a running server: sessions, their polls, their limits, their ends; and in memory, what happens between."""

import asyncio
import gc
import json
import signal
import socket
import struct
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from catenary.messages.decisions import Decision
from catenary.protocols.long_polling import POLL_ID
from catenary.transports.long_polling import PollSession
from catenary.transports.polls import PollResponse
from tests.parts.heart import Heart, confirming, in_loop, room, settle
from tests.parts.long_polling import (
    Poller,
    Response,
    identifier,
    lines,
    poll_services,
    posted,
    serving_polls,
    subscribe,
)
from tests.parts.raw_socket import RawSocket
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, token
from tests.server.test_figures import scrape

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--poll")
QUICK = ("--poll_interval=1", "--poll_flush_interval=40", "--poll_keepalive_timeout=2")


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    flags = ("--broker=memory", "--metrics_http=/metrics", "--handshake_timeout=1")
    limits = ("--ws_max_pending_size=20000", "--poll_max_request_size=1000")
    with cable_server(*PUBLIC, *QUICK, *flags, *limits) as server:
        yield server


@pytest.fixture
def client(server: CableServer) -> Poller:
    return Poller(server.port)


def publish(server: CableServer, data: object, stream: str = "news") -> None:
    body = json.dumps({"stream": stream, "data": json.dumps(data, indent=1)}).encode()
    urllib.request.urlopen(server.broadcast_url, body, timeout=10).close()


def wait_until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Sessions


def test_the_first_request_opens_a_session_and_carries_commands(client: Poller) -> None:
    response = client.post(subscribe("first"), subscribe("second"))
    assert response.status == 200
    assert response.types == ["welcome", "confirm_subscription", "confirm_subscription"]
    assert response.headers["content-type"] == "application/jsonl; charset=utf-8"
    assert response.body.endswith(b"\n")
    assert len(client.poll_id) > 40


def test_a_poll_waits_for_messages_and_for_no_longer_than_its_interval(
    server: CableServer, client: Poller
) -> None:
    client.post(subscribe("waits"))
    began = time.monotonic()
    response = client.post()
    assert (response.status, response.body) == (204, b"")
    assert time.monotonic() - began >= 1
    waiting = client.begin()
    publish(server, {"number": 1}, "waits")
    publish(server, {"number": 2}, "waits")
    # Collected for a moment, in one response; the JSON was published with line feeds.
    assert client.finish(waiting).published == [{"number": 1}, {"number": 2}]


def test_messages_between_polls_arrive_in_order_once(server: CableServer, client: Poller) -> None:
    client.post(subscribe("order"))
    found: list[int] = []
    for number in range(1, 31):
        publish(server, number, "order")
        if number % 4 == 0:
            found += client.post().published
    found += client.until(30)
    assert found == list(range(1, 31))


def test_later_polls_carry_commands_and_are_answered_with_their_replies(client: Poller) -> None:
    client.post()
    began = time.monotonic()
    assert client.post(subscribe("later")).types == ["confirm_subscription"]
    leaving = {"command": "unsubscribe", "identifier": identifier("later")}
    assert client.post(leaving, subscribe("more")).types == ["confirm_subscription"]
    assert time.monotonic() - began < 1
    assert client.post({"command": "ping"}, {"command": "nonsense"}).types == ["pong"]


def test_a_connection_serves_several_requests_of_any_path(server: CableServer) -> None:
    client = Poller(server.port)
    connection = client.begin()
    try:
        first = connection.getresponse()
        first.read()
        poll_id = first.getheader(POLL_ID, "")
        for _ in range(3):
            connection.request("POST", "/lp", lines(subscribe("kept")), {POLL_ID: poll_id})
            response = connection.getresponse()
            assert b"confirm_subscription" in response.read()
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def test_a_large_history_comes_in_several_responses(server: CableServer) -> None:
    for number in range(60):
        publish(server, f"{number} " + "x" * 15_000, "large")
    client = Poller(server.port)
    response = client.post(subscribe("large", history={"since": 1}))
    found = response.published
    while len(found) < 60:
        response = client.post()
        assert response.status == 200
        assert len(response.body) < 500_000
        found += response.published
    assert [int(each.split()[0]) for each in found] == list(range(60))


def test_by_http_1_0_the_connection_is_closed(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(b"POST /lp HTTP/1.0\r\n\r\n")
        assert "\r\nConnection: close" in client.head()
        assert b"welcome" in client.wait_for_end()


# Refusals


def test_a_client_that_is_refused_gets_401_and_its_commands_are_not_carried_out() -> None:
    flags = ("--norpc", "--poll", f"--jwt_secret={SECRET}", "--enforce_jwt", "--public_streams")
    late = token({"ext": "{}", "exp": int(time.time()) - 60})
    with cable_server(*flags, "--metrics_http=/metrics") as server:
        for path, reason in (("/lp", "unauthorized"), (f"/lp?jid={late}", "token_expired")):
            client = Poller(server.port, path)
            response = client.post(subscribe("x"))
            assert response.status == 401
            assert response.messages == [
                {"type": "disconnect", "reason": reason, "reconnect": False}
            ]
            assert client.poll_id == ""
        good = token({"ext": "{}"})
        assert Poller(server.port, f"/lp?jid={good}").post(subscribe("x")).status == 200
        assert Poller(server.port, X_JID=good).post().status == 200
        assert scrape(server.port)["long_poll_clients_num"] == 2


def test_an_application_that_does_not_answer_is_503() -> None:
    with cable_server("--poll", "--rpc_host=127.0.0.1:1") as server:
        response = Poller(server.port).post()
        assert response.status == 503


@pytest.mark.parametrize("poll_id", ["node.secret", "x", "x" * 500, "0" * 16 + "." + "A" * 32])
def test_an_unknown_session_is_stale(server: CableServer, client: Poller, poll_id: str) -> None:
    before = scrape(server.port)["long_poll_stale_requests_total"]
    client.poll_id = poll_id
    response = client.post(subscribe("x"))
    assert response.status == 401
    assert response.messages == [
        {"type": "disconnect", "reason": "session_expired", "reconnect": True}
    ]
    assert scrape(server.port)["long_poll_stale_requests_total"] == before + 1


def test_a_session_without_polls_ends(server: CableServer, client: Poller) -> None:
    before = scrape(server.port)
    client.post(subscribe("idle"))
    assert scrape(server.port)["long_poll_clients_num"] == before["long_poll_clients_num"] + 1
    wait_until(lambda: scrape(server.port)["long_poll_clients_num"] == 0)
    assert scrape(server.port)["open_connections_num"] == 0
    assert client.post().types == ["disconnect"]


HEAD = b"POST /lp HTTP/1.1\r\nHost: test\r\n"


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        (HEAD + b"Content-Length: 1001\r\n\r\n", 413, b"up to 1000 bytes"),
        (HEAD + b"Content-Length: x\r\n\r\n", 400, b"a number in Content-Length"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, b"but chunked"),
        (HEAD + b"Content-Length: 9\r\n\r\n{", 408, b"a body within 1 s"),
        (b"GET /lp HTTP/1.1\r\nHost: test\r\n\r\n", 405, b"expected POST, OPTIONS, got GET"),
    ],
)
def test_requests_that_are_refused(
    server: CableServer, raw: bytes, status: int, reason: bytes
) -> None:
    with RawSocket(server.port) as client:
        client.send(raw)
        answered, _, body = client.answer()
        assert (answered, reason in body) == (status, True), body
        assert client.wait_for_end() == b""


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
        assert client.answer()[0] == 413, "the refusal comes instead"
    with RawSocket(server.port) as client:
        client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.head() == "HTTP/1.1 100 Continue"
        client.send(b"{}")
        assert client.answer()[0] == 200


def test_beyond_the_limit_of_connections_it_is_503() -> None:
    with cable_server(*PUBLIC, "--max-conn=1") as server:
        first = Poller(server.port)
        first.post()
        assert Poller(server.port).post().status == 503
        assert first.post(subscribe("x")).status == 200


# CORS


def test_pages_of_allowed_origins_may_poll_and_read_the_id() -> None:
    with cable_server(*PUBLIC, *QUICK, "--allowed_origins=page.test") as server:
        for origin, status in (("http://page.test", 200), ("http://other.test", 403)):
            client = Poller(server.port, Origin=origin)
            response = client.post()
            assert response.status == status
            allowed = response.headers.get("access-control-allow-origin") == origin
            assert allowed == (status == 200)
            with RawSocket(server.port) as raw:
                raw.send(f"OPTIONS /lp HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\r\n".encode())
                head = raw.head()
                assert head.startswith("HTTP/1.1 204 ")
                assert (f"Access-Control-Allow-Origin: {origin}" in head) == (status == 200)
                assert "X-Anycable-Poll-ID" in head
        assert "X-Anycable-Poll-ID" in response.headers["access-control-expose-headers"]
        # Another page that knows the id
        mine = Poller(server.port, Origin="http://page.test")
        mine.post()
        other = Poller(server.port, Origin="http://other.test")
        other.poll_id = mine.poll_id
        assert other.post().status == 403
        assert mine.post(subscribe("x")).status == 200


# Polls that are cut off


def test_of_two_polls_the_older_is_answered_empty(server: CableServer, client: Poller) -> None:
    client.post(subscribe("two"))
    older = client.begin()
    newer = client.begin()
    response = client.finish(older)
    assert (response.status, response.body) == (204, b"")
    publish(server, 1, "two")
    assert client.finish(newer).published == [1]


def test_a_client_that_is_cut_off_while_it_waits_misses_nothing(
    server: CableServer, client: Poller
) -> None:
    client.post(subscribe("cut"))
    client.begin().close()
    publish(server, 1, "cut")
    assert client.until(1) == [1]


def reset(connection: socket.socket) -> None:
    """Closes a connection without reading what has arrived: the peer gets an error (tcp(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_response_that_is_not_delivered_is_sent_again(
    server: CableServer, client: Poller
) -> None:
    client.post(subscribe("reset"))
    connection = client.begin()
    publish(server, 1, "reset")
    assert connection.sock.recv(1, socket.MSG_PEEK)
    publish(server, 2, "reset")
    reset(connection.sock)
    assert client.until(2) == [1, 2]
    # Once
    publish(server, 3, "reset")
    assert client.until(3) == [3]


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_response_that_has_not_arrived_is_sent_with_the_next_poll(
    server: CableServer, client: Poller, connection: str
) -> None:
    """As when a phone changes its network: nobody says that the old connection is broken."""
    client.post(subscribe("mobile"))
    with RawSocket(server.port, receive_buffer=1) as old:
        fields = f"Connection: {connection}\r\n{POLL_ID}: {client.poll_id}\r\n\r\n"
        old.send(HEAD + fields.encode())
        publish(server, "x" * 10_000, "mobile")
        assert old.socket.recv(1, socket.MSG_PEEK)
        publish(server, 1, "mobile")
        assert client.until(1) == ["x" * 10_000, 1]
        publish(server, 2, "mobile")
        assert client.until(2) == [2]


def test_a_client_that_counts_responses_gets_again_what_it_lacks(server: CableServer) -> None:
    """As behind a proxy, to which the response was delivered."""
    client = Poller(server.port, counts=True)
    client.post(subscribe("counts"))
    connection = client.begin()
    publish(server, 1, "counts")
    assert connection.getresponse().read()
    connection.close()
    publish(server, 2, "counts")
    assert client.until(2) == [1, 2]
    publish(server, 3, "counts")
    assert client.until(3) == [3]
    # It may stop counting.
    client.finish(client.begin())
    client.counts = False
    publish(server, 4, "counts")
    assert client.until(4) == [4]


# Slow clients


def test_too_many_messages_between_polls_end_the_session(
    server: CableServer, client: Poller
) -> None:
    before = scrape(server.port)
    client.post(subscribe("flood"))
    for number in range(6):
        publish(server, f"{number}" + "x" * 5_000, "flood")
    response = client.post()
    assert response.status == 401
    # What had been accepted is delivered, then the reason.
    assert [each[0] for each in response.published] == ["0", "1", "2", "3"]
    assert response.messages[-1] == {
        "type": "disconnect",
        "reason": "too_slow",
        "reconnect": True,
    }
    assert client.post().messages[-1]["reason"] == "session_expired"
    after = scrape(server.port)
    for name in ("long_poll_overflows_total", "disconnected_slow_clients_total"):
        assert after[name] == before[name] + 1


def test_a_flood_for_a_client_that_waits_is_sent_at_once(server: CableServer) -> None:
    client = Poller(server.port)
    client.post(subscribe("burst"))
    found: list[str] = []
    while len(found) < 6:
        waiting = client.begin()
        for number in range(len(found), min(len(found) + 3, 6)):
            publish(server, f"{number}" + "x" * 8_000, "burst")
        response = client.finish(waiting)
        assert response.status == 200
        found += response.published
    assert [each[0] for each in found] == list("012345")


# The end of the server


def test_a_shutdown_tells_a_client_that_waits() -> None:
    with cable_server(*PUBLIC, "--log_level=debug") as server:
        client = Poller(server.port)
        between = Poller(server.port)
        client.post(subscribe("x"))
        between.post(subscribe("x"))
        waiting = client.begin()
        # After a request on another connection, the poll has been read.
        assert Poller(server.port).post().status == 200
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        response = client.finish(waiting)
        assert response.status == 401
        assert response.messages == [
            {"type": "disconnect", "reason": "server_restart", "reconnect": True}
        ]
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 10
        assert "Error" not in server.output()
        for poller in (client, between):
            assert poller.poll_id not in server.output()


# In memory


async def passes(condition: Callable[[], object]) -> None:
    """Lets turns of the event loop pass until a condition holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def opened(port: int, body: bytes = b"") -> str:
    response = await posted(port, body=body)
    assert response.status == 200
    return response.headers[POLL_ID.lower()]


def say(command: str, of: str, **fields: object) -> dict[str, object]:
    return {"command": command, "identifier": of, **fields}


@in_loop
async def test_commands_of_an_application_that_lags_wait_up_to_a_limit() -> None:
    heart = Heart()
    async with serving_polls(poll_services(heart)) as port:
        poll_id = await opened(port, lines(say("subscribe", room("r"))))
        slow = heart.application.later("perform")
        many = lines(*(say("message", room("r"), data=f"{each:>99}") for each in range(200)))
        waiting = asyncio.create_task(posted(port, poll_id, many))
        await passes(lambda: heart.counters.held_clients_total == 1)
        assert len(heart.application.calls) == 3
        assert (await posted(port, poll_id, many)).status == 503
        assert heart.counters.refused_connections_total == 1
        slow.set_result(Decision())
        heart.publish("r", "1")
        assert (await waiting).published == ["1"]
        await settle(2_000)
        performed = [call[2].strip() for call in heart.application.calls if call[0] == "perform"]
        assert performed == [str(each) for each in range(200)]


@in_loop
async def test_a_client_that_leaves_before_it_is_admitted_is_forgotten() -> None:
    heart = Heart()
    async with serving_polls(poll_services(heart)) as port:
        answer = heart.application.later("connect")
        first = asyncio.create_task(posted(port))
        await passes(lambda: heart.counters.long_poll_clients_num == 1)
        first.cancel()
        await passes(lambda: heart.counters.long_poll_clients_num == 0)
        answer.cancel()
        assert heart.counters.open_connections_num == 0


@in_loop
async def test_a_slow_decision_does_not_hold_back_the_welcome() -> None:
    heart = Heart()
    async with serving_polls(poll_services(heart)) as port:
        answer = heart.application.later("subscribe")
        response = await posted(port, body=lines(say("subscribe", room("slow"))))
        assert response.types == ["welcome"]
        waiting = asyncio.create_task(posted(port, response.headers[POLL_ID.lower()]))
        answer.set_result(confirming(room("slow")))
        assert (await waiting).types == ["confirm_subscription"]


class MemoryPoll:
    """A request, and whether its response has arrived."""

    def __init__(self) -> None:
        self.messages = b""
        self.has_arrived = True
        self.answered = asyncio.Event()

    def answer(self, response: PollResponse) -> None:
        self.messages = response.messages
        self.answered.set()

    def is_unread(self) -> bool:
        return not self.has_arrived


@pytest.mark.parametrize("arrives", [True, False])
@in_loop
async def test_a_response_that_is_acknowledged_late_is_not_sent_again(arrives: bool) -> None:
    heart = Heart()
    services = poll_services(heart)
    async with serving_polls(services) as port:
        session = services.sessions.find(await opened(port, lines(say("subscribe", room("r")))))
        assert session is not None
        first, second = MemoryPoll(), MemoryPoll()
        session.poll(first, None, b"")
        heart.publish("r", "1")
        await first.answered.wait()
        heart.publish("r", "2")
        first.has_arrived = False
        session.poll(second, None, lines({"command": "ping"}))
        assert not second.answered.is_set()
        first.has_arrived = arrives
        await second.answered.wait()
        assert (b'"message":"1"' in second.messages) is not arrives
        assert b'"message":"2"' in second.messages


def living_sessions() -> int:
    return sum(type(each) is PollSession for each in gc.get_objects())


@pytest.mark.parametrize("how", ["waiting", "idle", "refused", "reset"])
def test_a_session_that_ended_is_freed_without_the_collector(how: str) -> None:
    """By reference counts: a cycle would wait for the collector."""

    @in_loop
    async def scenario() -> None:
        heart = Heart()
        services = poll_services(heart)
        async with serving_polls(services) as port:
            if how == "refused":
                heart.application.later("connect").set_result(Decision())
            poll_id = await opened(port, lines(say("subscribe", room("r"))))
            if how == "waiting":
                task = asyncio.create_task(posted(port, poll_id))
                await passes(lambda: services.sessions._services.polls._waiting)
                heart.publish("r", "1")
                await task
            session = services.sessions.find(poll_id)
            assert session is not None
            session.end()
            del session
            await settle(50)
        assert living_sessions() == before

    gc.collect()
    before = living_sessions()
    gc.disable()
    try:
        scenario()
    finally:
        gc.enable()


def test_responses_have_readable_messages() -> None:
    response = Response(200, {}, b'{"type":"welcome"}\n\n{"identifier":"x","message":1}\n')
    assert (response.types, response.published) == (["welcome", "message"], [1])
