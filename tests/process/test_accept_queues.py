"""The queue of a listening socket shows how many connections wait to be accepted."""

import socket
import time
from pathlib import Path

from catenary.process.accept_queues import LONG, AcceptQueues


def listening(limit: int) -> socket.socket:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    found.listen(limit)
    return found


def test_a_queue_is_long_until_connections_are_accepted() -> None:
    """By a descriptor of another process, or of this one."""
    with listening(LONG * 4) as other:
        queues = AcceptQueues([other])
        assert not queues.are_long
        clients = [socket.create_connection(other.getsockname()) for _ in range(LONG)]
        deadline = time.monotonic() + 10
        while not queues.are_long:  # the kernel may still be at the last handshake
            assert time.monotonic() < deadline
        other.accept()[0].close()
        assert not queues.are_long
        queues.close()
        for each in clients:
            each.close()


def test_a_short_limit_is_long_earlier() -> None:
    with listening(8) as other, socket.create_connection(other.getsockname()):
        queues = AcceptQueues([other])
        assert not queues.are_long
        with socket.create_connection(other.getsockname()):
            assert queues.are_long
        queues.close()


def test_the_sockets_stay_open_until_the_queues_are_closed() -> None:
    other = listening(8)
    address = other.getsockname()
    queues = AcceptQueues([other])
    other.close()
    socket.create_connection(address).close()
    queues.close()
    with socket.socket() as client:
        assert client.connect_ex(address) != 0


def test_unix_sockets_have_no_queue_that_is_shown(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen(1)
        assert not AcceptQueues([other]).are_long
