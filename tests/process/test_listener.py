"""A crowd of new connections is accepted with more sockets."""

import contextlib
import signal
import time
from pathlib import Path

import pytest

from catenary.process.listener import ACCEPTS_IN_A_CROWD, ACCEPTS_PER_TURN, CROWD
from tests.parts.raw_socket import RawSocket, masked, upgrade
from tests.parts.server import CableServer, cable_server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")
PING = masked(b"x", 0x9)


def accepts_per_turn(server: CableServer) -> int:
    """How often the loop polls the socket that the port listens on: it accepts one connection in a
    turn from each."""
    process = Path(f"/proc/{server.process.pid}")
    (inode,) = {
        fields[9]
        for line in (process / "net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A" and int(fields[1].split(":")[1], 16) == server.port
    }
    polled = 0
    for each in (process / "fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            polled += each.read_text().count(f" ino:{int(inode):x} ")
    return polled


def let_a_crowd_in(server: CableServer, clients: list[RawSocket]) -> None:
    """Until the server has noticed; who came is among the clients then."""
    deadline = time.monotonic() + 30
    while accepts_per_turn(server) != ACCEPTS_IN_A_CROWD:
        assert time.monotonic() < deadline
        crowd = [RawSocket(server.port) for _ in range(2 * CROWD)]
        for client in crowd:
            client.send(upgrade())
        clients += [client.opened() for client in crowd]


def test_a_crowd_is_accepted_with_more_sockets_until_it_is_over() -> None:
    with cable_server(*PUBLIC) as server:
        assert accepts_per_turn(server) == ACCEPTS_PER_TURN
        clients: list[RawSocket] = []
        for _ in range(2):
            let_a_crowd_in(server, clients)
            deadline = time.monotonic() + 30
            while accepts_per_turn(server) != ACCEPTS_PER_TURN:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        clients += [RawSocket(server.port).open() for _ in range(3)]
        for client in clients:
            client.send(PING)
            assert client.frame() == (0xA, b"x")
            client.socket.close()


def test_nobody_comes_in_by_those_sockets_when_the_server_ends() -> None:
    with cable_server(*PUBLIC, "--shutdown_slowdrain", "--shutdown_timeout=5") as server:
        clients: list[RawSocket] = []
        let_a_crowd_in(server, clients)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_output("Disconnecting ")
        with pytest.raises(ConnectionRefusedError):
            RawSocket(server.port)
        for client in clients:
            client.socket.close()
        assert server.process.wait(30) == 0
