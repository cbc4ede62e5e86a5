"""Welcome and pings: the messages that every client receives unasked."""

import time

from tests.conformance.conftest import Connect, StartServer
from tests.parts.cable_client import CableClient
from tests.parts.conformance_app import ConformanceApp


def test_client_receives_welcome(connect: Connect) -> None:
    assert connect().receive()["type"] == "welcome"


def test_welcome_has_the_session_id_that_the_application_sees(
    connect: Connect, app: ConformanceApp
) -> None:
    sid = connect().receive_welcome()["sid"]

    assert len(sid) > 10
    assert len(app.calls.of(sid, "connect")) == 1


def test_sessions_have_different_ids(connect: Connect) -> None:
    assert len({connect().receive_welcome()["sid"] for _ in range(5)}) == 5


def test_request_id_becomes_the_session_id(connect: Connect, app: ConformanceApp, sid: str) -> None:
    client = connect(headers={"X-Request-ID": sid})

    assert client.receive_welcome()["sid"] == sid
    assert app.calls.of(sid, "connect")[0].sid == sid


def test_client_receives_pings_with_growing_timestamps(connect: Connect) -> None:
    """Two seconds apart, so that a timer's jitter can't put both into the same second."""
    client = connect("pi=2")
    client.receive_welcome()
    first = client.receive_any()
    first_at = time.monotonic()
    second = client.receive_any()

    assert 1.5 < time.monotonic() - first_at < 3
    assert first["type"] == second["type"] == "ping"
    assert isinstance(first["message"], int)
    assert abs(first["message"] - time.time()) < 5
    assert first["message"] < second["message"]


def test_ping_is_written_without_spaces(client: CableClient) -> None:
    """The bytes that other servers send: clients in the field may compare them."""
    raw = client.receive_raw()

    assert isinstance(raw, str)
    assert raw.startswith('{"type":"ping","message":1')


def test_client_asks_for_a_ping_interval(start_server: StartServer) -> None:
    """Pings come although the server's own interval is far beyond the deadline."""
    with (
        start_server("--public", "--ping_interval=60") as server,
        CableClient(f"{server.cable_url}?pi=1") as client,
    ):
        client.receive_welcome()

        assert [client.receive_any()["type"] for _ in range(2)] == ["ping", "ping"]


def test_client_asks_for_no_pings_at_all(connect: Connect) -> None:
    """Compared with a client that received three of them meanwhile."""
    quiet = [connect("pi=0"), connect("pi=-1")]
    for client in quiet:
        client.receive_welcome()
    witness = connect()
    witness.receive_welcome()

    assert [witness.receive_any()["type"] for _ in range(3)] == ["ping"] * 3
    for client in quiet:
        client.send("ping")
        assert client.receive_any()["type"] == "pong"


def test_client_asks_for_a_timestamp_precision(connect: Connect) -> None:
    """Seconds where nothing, or nothing known, is asked for; a wrong interval changes nothing."""
    units_per_s = {
        "ptp=s": 1,
        "ptp=ms": 10**3,
        "ptp=ns": 10**9,
        "ptp=us": 1,
        "ptp=": 1,
        "pi=abc": 1,
        "pi=1.5": 1,
    }
    clients = {query: connect(query) for query in units_per_s}
    for query, client in clients.items():
        client.receive_welcome()
        timestamp = client.receive_any()["message"]
        assert abs(timestamp / units_per_s[query] - time.time()) < 5, query


def test_client_may_ping(client: CableClient) -> None:
    client.send("ping")

    assert client.receive_text() == '{"type":"pong"}'


def test_pong_of_a_client_is_not_answered(client: CableClient) -> None:
    client.send("pong")

    client.expect_nothing()
