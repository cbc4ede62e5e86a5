"""Pusher clients of a cable inside another ASGI server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from catenary import Cable
from tests.parts.pusher import subscription


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    cable = Cable(channels=[])
    app = FastAPI(lifespan=cable.lifespan)
    options: dict[str, Any] = {
        "pusher_app_id": "app",
        "pusher_app_key": "key",
        "pusher_secret": "secret",
    }
    app.mount("/cable", cable.asgi(**options))

    @app.post("/publish")
    async def publish() -> None:
        await cable.broadcast("private-x", {"event": "new", "data": {"a": 1}})

    with TestClient(app) as client:
        yield client


def opened(client: TestClient, target: str) -> WebSocketTestSession:
    return client.websocket_connect(f"/cable/app/{target}")


def test_a_client_receives_what_the_application_broadcasts(client: TestClient) -> None:
    with opened(client, "key?protocol=7") as socket:
        established = socket.receive_json()
        assert established["event"] == "pusher:connection_established"
        socket_id = json.loads(established["data"])["socket_id"]
        socket.send_text(subscription("1.1", "private-x"))
        assert socket.receive_json()["event"] == "pusher:subscription_error"
        socket.send_text(subscription(socket_id, "private-x"))
        assert socket.receive_json()["event"] == "pusher_internal:subscription_succeeded"
        client.post("/publish")
        event = {"event": "new", "channel": "private-x", "data": '{"a":1}'}
        assert socket.receive_json() == event


@pytest.mark.parametrize(("target", "code"), [("other?protocol=7", 4001), ("key", 4008)])
def test_a_connection_is_refused_with_a_code_of_the_protocol(
    client: TestClient, target: str, code: int
) -> None:
    with opened(client, target) as socket:
        assert socket.receive_json()["data"]["code"] == code
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == code
