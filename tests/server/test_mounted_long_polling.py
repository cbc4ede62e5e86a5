"""Long polling of a mounted cable, in uvicorn and hypercorn: the same rules as on a port of our own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest

from catenary import Cable
from tests.parts.asgi_host import AsgiHost, Kind, asgi_host
from tests.parts.long_polling import Poller
from tests.server.mounted_chat import mirror
from tests.server.test_mounted import counters, mounted_at_cable
from tests.server.test_mounted_event_streams import publish, stream, until

SUBSCRIBE = {"command": "subscribe", "identifier": '{"channel":"MirrorChannel"}'}
QUICK: dict[str, Any] = {
    "poll": True,
    "poll_interval": 1,
    "poll_flush_interval": 20,
    "poll_keepalive_timeout": 1,
}


@pytest.fixture(params=get_args(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@contextmanager
def hosted(kind: Kind, **options: Any) -> Iterator[tuple[Cable, AsgiHost]]:
    cable = mirror()
    with asgi_host(cable.asgi(**QUICK, **options), kind) as host:
        yield cable, host


def poller(host: AsgiHost) -> Poller:
    return Poller(host.port)


def say(text: str) -> dict[str, object]:
    data = json.dumps({"action": "say", "text": text})
    return {**SUBSCRIBE, "command": "message", "data": data}


def test_a_session_its_commands_and_messages(kind: Kind) -> None:
    with hosted(kind, broker="memory") as (cable, host):
        client = poller(host)
        assert client.post(SUBSCRIBE).types == ["welcome", "confirm_subscription"]
        assert client.post(say("é")).published == ["é"]
        publish(host, cable, "between")
        assert client.post().published == ["between"]
        waiting = client.begin()
        publish(host, cable, "waited for")
        assert client.finish(waiting).published == ["waited for"]
        assert client.post().status == 204
        figures = counters(cable.asgi())
        assert (figures.long_poll_clients_num, figures.open_connections_num) == (1, 1)
        until(lambda: figures.open_connections_num == 0)
        assert client.post().types == ["disconnect"]


def test_a_client_that_is_cut_off_misses_nothing(kind: Kind) -> None:
    with hosted(kind) as (cable, host):
        client = poller(host)
        client.post(SUBSCRIBE)
        client.begin().close()
        publish(host, cable, "first")
        assert client.until("first") == ["first"]


def test_refusals(kind: Kind) -> None:
    with hosted(kind, poll_max_request_size=100, max_conn=1) as (_, host):
        client = poller(host)
        assert client.post({"command": "x" * 200}).status == 413
        assert client.post(SUBSCRIBE).status == 200
        assert poller(host).post().status == 503
        unknown = poller(host)
        unknown.poll_id = "a.b"
        assert unknown.post().messages[0]["reason"] == "session_expired"
        assert Poller(host.port, "/other").post().status == 404


def test_below_a_mount_and_beside_event_streams() -> None:
    cable = mirror()
    app = mounted_at_cable(cable, **QUICK, sse=True)
    with asgi_host(app) as host:
        with stream(host) as opened:
            assert opened.response.status == 200
        assert Poller(host.port, "/cable/lp").post().types == ["welcome"]


def test_a_shutdown_tells_a_client_that_waits() -> None:
    with hosted("uvicorn") as (cable, host):
        client = poller(host)
        client.post(SUBSCRIBE)
        figures = counters(cable.asgi())
        waiting = client.begin({"command": "nonsense"})
        until(lambda: figures.failed_client_msg_total == 1)
        host.run(cable.asgi()._hosted.stop())  # type: ignore[union-attr]
        response = client.finish(waiting)
        assert response.status == 401
        assert response.messages[-1]["reason"] == "server_restart"
