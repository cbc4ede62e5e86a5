"""Requests, however they are split: heads of new connections, publications over HTTP, unfinished requests."""

import contextlib
import functools

import pytest

from catenary.edge.connect_limits import ConnectLimits, ConnectRules
from catenary.edge.connection import PortState
from catenary.errors import RequestRefused
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.messages.publications import parse, parse_in_steps
from catenary.metrics.counters import Counters
from catenary.node.observers import ObserverGroup
from catenary.wire.request_memory import PendingBody, RequestMemory
from tests.api.test_intake import Publisher, post
from tests.edge.test_connection import Recorder
from tests.growth.measure import Case, Work, assert_near_linear, for_each
from tests.growth.test_wire import in_pieces
from tests.parts.client_port import client_connection
from tests.parts.heart import Heart
from tests.parts.raw_socket import upgrade

# Request sniffer: the whole path of a new connection


def a_head_byte_by_byte(size: int) -> Work:
    client = client_connection(Heart(), PortState())
    client.connection_made(Recorder())
    pieces = in_pieces(upgrade("/cable", "X-Long: " + "x" * size))
    return for_each(pieces, client.data_received)


def a_head_with_many_headers(size: int) -> Work:
    """More than are allowed: they are read up to the limit."""
    client = client_connection(Heart(), PortState())
    client.connection_made(Recorder())
    head = upgrade("/cable", *(f"X: {number}" for number in range(size)))
    return lambda: client.data_received(head)


def many_connections_that_only_begin_a_head(size: int) -> Work:
    heart, state = Heart(), PortState()
    clients = [client_connection(heart, state) for _ in range(size // 10)]

    def work() -> None:
        for client in clients:
            client.connection_made(Recorder())
            client.data_received(b"GET /cable HTTP/1.1\r\n")
        for client in clients:
            client.connection_lost(None)

    return work


def a_spray_of_addresses(size: int) -> Work:
    """Each connects twice, and has a connection open, of one that it may have."""
    rules = ConnectRules(max_connect_rate=5, max_address_connect_rate=1, max_address_connections=1)
    observers = ObserverGroup()
    limits = ConnectLimits(rules, observers, lambda: (), lambda: 5.0)
    opened = observers.opened
    assert opened is not None

    def connect(number: int) -> None:
        address = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"
        for _ in range(2):
            with contextlib.suppress(RequestRefused):
                limits.check(address)
        opened(Environment(Sid("s"), "ws://a/cable", {"REMOTE_ADDR": address}))

    return for_each(range(size), connect)


# Publications over HTTP


def publisher() -> Publisher:
    publisher = Publisher()
    publisher.stage.begin(b"")
    return publisher


def a_head_of_a_publisher_byte_by_byte(size: int) -> Work:
    pieces = in_pieces(post(b"1", "k", "X-Long: " + "x" * size))
    return for_each(pieces, publisher().stage.receive)


def a_body_byte_by_byte(size: int) -> Work:
    return for_each(in_pieces(post(b"x" * size)), publisher().stage.receive)


def a_refused_body_byte_by_byte(size: int) -> Work:
    return for_each(in_pieces(post(b"x" * size, "wrong")), publisher().stage.receive)


def many_publications_in_one_read(size: int) -> Work:
    stage, data = publisher().stage, post(b"1") * size
    return lambda: stage.receive(data)


def many_publications_in_pieces(size: int) -> Work:
    return for_each(in_pieces(post(b"1") * size, 33), publisher().stage.receive)


def batch(size: int) -> bytes:
    messages = (b'{"stream":"s","data":"%d"}' % number for number in range(min(size, 10_000)))
    return b"[" + b",".join(messages) + b"]"


def a_batch_at_once(size: int) -> Work:
    return functools.partial(parse, batch(size))


def a_batch_in_steps(size: int) -> Work:
    return lambda: list(parse_in_steps(batch(size)))


# Unfinished requests


def a_large_body_in_pieces(size: int) -> Work:
    body = PendingBody(RequestMemory(0, Counters()), 1 << 30, lambda: None)
    return for_each([b"x" * 100] * size, body.add)


def many_bodies_that_no_room_is_left_for(size: int) -> Work:
    """As many as fit are there already: each further one makes the oldest give way."""
    memory = RequestMemory(100 * size, Counters())
    for _ in range(size):
        PendingBody(memory, 1 << 30, lambda: None).add(b"x" * 100)

    def work() -> None:
        for _ in range(size):
            PendingBody(memory, 1 << 30, lambda: None).add(b"x" * 100)

    return work


@pytest.mark.parametrize(
    "case",
    [
        a_head_byte_by_byte,
        a_head_with_many_headers,
        many_connections_that_only_begin_a_head,
        a_spray_of_addresses,
        a_head_of_a_publisher_byte_by_byte,
        a_body_byte_by_byte,
        a_refused_body_byte_by_byte,
        many_publications_in_one_read,
        many_publications_in_pieces,
        a_batch_at_once,
        a_batch_in_steps,
        a_large_body_in_pieces,
        many_bodies_that_no_room_is_left_for,
    ],
)
def test_work_on_requests_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
