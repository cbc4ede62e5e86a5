"""GraphQL clients of a cable inside another ASGI server."""

from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from catenary import Cable, Connection
from catenary.channels.graphql import Operation, OperationChannel, Result


class Visitor(Connection):
    async def connect(self) -> None:
        if "bad" in self.request.headers.get("x-apollo-connection", ""):
            self.reject_unauthorized_connection()


class GraphqlChannel(OperationChannel[Visitor]):
    async def run(self, operation: Operation) -> Result | AsyncIterator[Result]:
        return counting() if operation.query == "count" else {"data": self.connection.request.path}


async def counting() -> AsyncIterator[Result]:
    for number in range(3):
        yield {"data": number}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    cable = Cable(connection=Visitor, channels=[GraphqlChannel])
    app = FastAPI(lifespan=cable.lifespan)
    app.mount("/cable", cable.asgi(graphql_path="/graphql", graphql_idle_timeout=1))
    with TestClient(app) as client:
        yield client


def opened(client: TestClient, *protocols: str) -> WebSocketTestSession:
    return client.websocket_connect("/cable/graphql", subprotocols=list(protocols))


def test_an_operation(client: TestClient) -> None:
    with opened(client, "graphql-transport-ws") as socket:
        assert socket.accepted_subprotocol == "graphql-transport-ws"
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}
        socket.send_json({"type": "subscribe", "id": "1", "payload": {"query": "path"}})
        path = {"id": "1", "type": "next", "payload": {"data": "/cable/graphql"}}
        assert socket.receive_json() == path
        assert socket.receive_json() == {"id": "1", "type": "complete"}
        socket.send_json({"type": "subscribe", "id": "2", "payload": {"query": "count"}})
        for number in range(3):
            next_one = {"id": "2", "type": "next", "payload": {"data": number}}
            assert socket.receive_json() == next_one
        assert socket.receive_json() == {"id": "2", "type": "complete"}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"type": "connection_init", "payload": {"bad": 1}}, 4403),
        ({"type": "subscribe", "id": "1", "payload": {"query": "path"}}, 4401),
        (None, 4408),
    ],
)
def test_a_refused_client(client: TestClient, said: object, code: int) -> None:
    with opened(client, "graphql-transport-ws") as socket:
        if said is not None:
            socket.send_json(said)
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_json()
    assert ended.value.code == code


def test_other_paths_are_the_cable(client: TestClient) -> None:
    with client.websocket_connect("/cable/", subprotocols=["actioncable-v1-json"]) as socket:
        assert socket.receive_json()["type"] == "welcome"
