"""``--jwt_enforce_expiry``: a client is disconnected when its token has expired, whatever its transport."""

import http.client
import json
import time
from collections.abc import Iterator

import pytest

from tests.parts.cable_client import CableClient, identifier
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name, token

FLAGS = (
    "--norpc",
    "--broadcast_adapter=http",
    f"--secret={SECRET}",
    "--presets=broker",
    "--sse",
    "--poll",
    "--jwt_enforce_expiry",
    "--jwt_expiry_grace=1",
    "--metrics_http=/metrics",
)
EXPIRED = {"type": "disconnect", "reason": "token_expired", "reconnect": False}
EXT = ("actioncable-v1-ext-json",)
STREAM = identifier("$pubsub", signed_stream_name=signed_name("news"))


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as running:
        yield running


def valid_for(seconds: float, user: str = "1") -> str:
    return token({"ext": json.dumps({"user": user}), "exp": int(time.time() + seconds)})


def client(server: CableServer, text: str, query: str = "") -> CableClient:
    return CableClient(f"{server.cable_url}?jid={text}{query}", subprotocols=EXT)


def test_websockets(server: CableServer) -> None:
    before = server.figure("expired_tokens_total")
    with client(server, valid_for(1)) as short, client(server, valid_for(3600)) as long:
        short.receive_welcome()
        long.receive_welcome()
        assert short.receive() == EXPIRED
        assert short.wait_for_close()[0] == 1000
        assert long.subscribe(STREAM)["type"] == "confirm_subscription"
    assert server.figure("expired_tokens_total") == before + 1


def test_event_streams(server: CableServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", f"/events?jid={valid_for(1)}&signed_stream={signed_name('news')}")
    answer = connection.getresponse()
    assert answer.status == 200
    text = answer.read().decode()
    connection.close()
    assert '"reason":"token_expired","reconnect":false' in text


def test_long_polling(server: CableServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    url = f"/lp?jid={valid_for(1)}"
    connection.request("POST", url, b"", {"Content-Type": "application/json"})
    answer = connection.getresponse()
    session = answer.headers["X-Anycable-Poll-ID"]
    assert b"welcome" in answer.read()
    connection.request("POST", url, b"", {"X-Anycable-Poll-ID": session})
    text = connection.getresponse().read()
    connection.close()
    assert b'"reason":"token_expired"' in text


def test_a_client_that_comes_back_with_a_new_token_resumes_and_stays(server: CableServer) -> None:
    with client(server, valid_for(1)) as first:
        sid = first.receive()["sid"]
        first.subscribe(STREAM)
        first.drop()
    with (
        client(server, valid_for(3600), f"&sid={sid}") as second,
        client(server, valid_for(1)) as later,
    ):
        assert second.receive()["restored"] is True
        later.receive_welcome()
        # Its token expires after the first one.
        assert later.receive() == EXPIRED
        assert second.subscribe(STREAM)["type"] == "confirm_subscription"


def test_the_token_of_another_user_does_not_resume(server: CableServer) -> None:
    with client(server, valid_for(1)) as first:
        sid = first.receive()["sid"]
        first.subscribe(STREAM)
        assert first.receive() == EXPIRED
    with client(server, valid_for(3600, "2"), f"&sid={sid}") as second:
        assert "restored" not in second.receive()
