"""A crowd of Action Cable clients in a process of its own: opens them, prints a line, drops them.

    python -m tests.parts.crowd PORT NUMBER

Waits for a line on standard input before it drops all of them at once, without a close frame, and
ends. Plain sockets behind one selector; sources are spread over 127.0.0.x, because one address has
fewer free ports than a crowd may need.
"""

import errno
import resource
import selectors
import socket
import sys
import time

from tests.parts.raw_socket import upgrade

UNDER_WAY = 500
"""Handshakes at the same time."""

DEADLINE_S = 120.0
PER_ADDRESS = 4_000


def main(port: int, number: int) -> None:
    """Raises TimeoutError if not all clients are welcomed in time."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    selector = selectors.DefaultSelector()
    opened: list[socket.socket] = []
    welcomed = 0
    deadline = time.monotonic() + DEADLINE_S
    while welcomed < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{welcomed} of {number} welcomed after {DEADLINE_S} s")
        while len(opened) < min(number, welcomed + UNDER_WAY):
            client = _begin(port, f"127.0.0.{2 + len(opened) // PER_ADDRESS}")
            opened.append(client)
            selector.register(client, selectors.EVENT_WRITE, bytearray())
        for key, _ in selector.select(1):
            welcomed += _go_on(selector, key)
    print("open", flush=True)
    sys.stdin.readline()
    for client in opened:
        client.close()


def _begin(port: int, source: str) -> socket.socket:
    client = socket.socket()
    client.bind((source, 0))
    client.setblocking(False)
    refused = client.connect_ex(("127.0.0.1", port))
    if refused not in (0, errno.EINPROGRESS):
        raise OSError(refused, "can't connect")
    return client


def _go_on(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> int:
    """One step of one client; 1 if it has just been welcomed."""
    client = key.fileobj
    assert isinstance(client, socket.socket)
    if key.events & selectors.EVENT_WRITE:
        client.send(upgrade())
        selector.modify(client, selectors.EVENT_READ, key.data)
        return 0
    data = client.recv(4096)
    if not data:
        raise ConnectionError(f"closed by the server after {bytes(key.data)!r}")
    key.data.extend(data)
    if b'"welcome"' not in key.data:
        return 0
    selector.unregister(client)
    return 1


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
