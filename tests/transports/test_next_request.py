"""A connection is given back for its next request, or closed."""

from typing import Any, cast

from catenary.edge.connection import ClientConnection
from catenary.transports.next_request import NextRequest, keeps_connection
from catenary.wire.http1 import RequestHead
from tests.parts.heart import in_loop, settle


class Transport:
    """A transport with something in its buffer, or nothing."""

    def __init__(self) -> None:
        self.unsent = 0
        self.is_closed = False

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        self.is_closed = True


class Connection:
    """A connection whose stage is a sniffer."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.stage: Any = "sniffer"
        self.entered: list[Any] = []
        self.rest = b""

    def enter(self, stage: Any, rest: bytes) -> None:
        self.entered.append(stage)
        self.rest = rest


def following(connection: Connection, *, is_expected: bool = True) -> NextRequest:
    return NextRequest(cast("ClientConnection", connection), is_expected=is_expected)


@in_loop
async def test_the_sniffer_gets_the_connection_in_the_next_turn() -> None:
    connection, left = Connection(), []
    assert following(connection).await_soon(lambda: left.append(1))
    assert (connection.entered, left) == ([], [])
    await settle()
    assert (connection.entered, left) == (["sniffer"], [1])


@in_loop
async def test_a_connection_that_can_serve_no_other_request_stays() -> None:
    connection = Connection()
    connection.transport.unsent = 1
    assert not following(connection).await_soon(lambda: None)
    connection.transport.unsent = 0
    assert not following(connection, is_expected=False).await_soon(lambda: None)
    connection.transport.close()
    assert not following(connection).await_soon(lambda: None)
    await settle()
    assert connection.entered == []


@in_loop
async def test_what_arrives_before_the_next_turn_is_not_lost() -> None:
    connection = Connection()
    request = following(connection)
    assert request.await_soon(lambda: None)
    request.receive(b"GET ")
    request.receive(b"/")
    await settle()
    assert (connection.entered, connection.rest) == (["sniffer"], b"GET /")


@in_loop
async def test_a_client_that_does_not_wait_for_its_response_has_no_next_request() -> None:
    connection = Connection()
    request = following(connection)
    request.receive(b"GET ")
    assert not request.await_soon(lambda: None)


@in_loop
async def test_a_connection_that_is_lost_before_the_next_turn_is_not_given_back() -> None:
    connection, left = Connection(), []
    request = following(connection)
    assert request.await_soon(lambda: left.append(1))
    request.forget()
    await settle()
    assert connection.entered == left == []


def test_http_1_0_and_close_end_the_connection() -> None:
    assert keeps_connection(RequestHead("GET", "/", {}))
    assert not keeps_connection(RequestHead("GET", "/", {"connection": "Close"}))
    assert not keeps_connection(RequestHead("GET", "/", {}, is_http_1_0=True))
