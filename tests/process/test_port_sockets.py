"""Which socket serves which port: those of systemd, those of an earlier server, and those that are bound."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from catenary.errors import ConfigError
from catenary.process.binding import ListenAddress
from catenary.process.port_sockets import Inherited, PortSockets
from tests.parts.ports import free_port


@contextlib.contextmanager
def inherited(
    name: str, port: int = 0, host: str = "127.0.0.1", *, number: int = 1
) -> Iterator[list[Inherited]]:
    """Listening sockets at one address."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(number):
            each = stack.enter_context(socket.socket())
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind((host, port))
            each.listen()
            found.append(Inherited(each, name))
        yield found


@pytest.mark.parametrize("name", ["catenary.socket", "unknown", "port"])
def test_a_socket_of_systemd_serves_the_port_of_its_number_or_its_name(name: str) -> None:
    port = free_port()
    with inherited(name, port, "127.0.0.2") as (given,):
        sockets = PortSockets([given])
        where = ListenAddress("127.0.0.1", port if name != "port" else free_port())
        assert sockets.open(where) == [given.socket]
        sockets.close_unused()
        assert sockets.transferable == [given]


def test_a_name_wins_over_a_number() -> None:
    port = free_port()
    with inherited("api_port", port) as (given,):
        sockets = PortSockets([given])
        (own,) = sockets.open(ListenAddress("127.0.0.2", port))
        with own:
            assert own is not given.socket
            assert sockets.open(ListenAddress("127.0.0.1", 1, "api_port")) == [given.socket]


def test_a_unix_socket_is_for_clients_unless_its_name_says_otherwise(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX) as clients,
        socket.socket(socket.AF_UNIX) as publishers,
    ):
        for each, name in ((clients, "c"), (publishers, "p")):
            each.bind(str(tmp_path / name))
            each.listen()
        sockets = PortSockets(
            [
                Inherited(publishers, "http_broadcast_port"),
                Inherited(clients, "catenary.socket"),
            ]
        )
        assert sockets.open(ListenAddress("localhost", 8080)) == [clients]
        assert sockets.open(ListenAddress("localhost", 8090, "http_broadcast_port")) == [publishers]
        assert [str(each) for each in sockets.transferable] == [
            f"unix:{tmp_path / 'c'}",
            f"unix:{tmp_path / 'p'}",
        ]


def test_a_socket_of_systemd_that_serves_nothing_is_an_error() -> None:
    with inherited("other.socket") as (given,):
        sockets = PortSockets([given])
        where = str(given)
        with pytest.raises(ConfigError) as caught:
            sockets.close_unused()
        assert f"got {where} (other.socket)" in str(caught.value)


def test_an_earlier_server_passes_its_sockets_for_the_same_addresses_only() -> None:
    port = free_port()
    with inherited("", port) as (given,), inherited("") as (unused,):
        sockets = PortSockets([given, unused])
        assert sockets.open(ListenAddress("127.0.0.1", port)) == [given.socket]
        (own,) = sockets.open(ListenAddress("127.0.0.2", port))
        with own:
            sockets.close_unused()
            assert unused.socket.fileno() == -1
            assert len(sockets.transferable) == 2


def test_addresses_that_the_earlier_server_did_not_have_are_bound() -> None:
    port = free_port()
    with inherited("", port, "127.0.0.1") as (given,):
        found = PortSockets([given]).open(ListenAddress("localhost", port))
        assert found[0] is given.socket
        for each in found:
            each.close()


@pytest.mark.parametrize(
    ("number", "workers", "shares"),
    [
        (2, 2, [[0], [1]]),
        (3, 2, [[0, 2], [1]]),
        (1, 3, [[0], [0], [0]]),
        (2, 3, [[0], [1], [0]]),
        (2, 1, [[0, 1]]),
    ],
)
def test_workers_share_what_is_inherited(
    number: int, workers: int, shares: list[list[int]]
) -> None:
    """None of them has a queue of its own, which would end with it."""
    port = free_port()
    with inherited("", port, number=number) as given:
        found = PortSockets(given).open_shares(ListenAddress("127.0.0.1", port), workers)
        sockets = [each.socket for each in given]
        assert [[sockets.index(each) for each in share] for share in found] == shares


def test_workers_without_inheritance_have_a_socket_each() -> None:
    port = free_port()
    sockets = PortSockets()
    found = sockets.open_shares(ListenAddress("127.0.0.1", port), 3)
    assert len({each.fileno() for share in found for each in share}) == 3
    assert len(sockets.transferable) == 3
    for (each,) in found:
        assert not each.getblocking()
        each.close()
    assert sockets.transferable == []
