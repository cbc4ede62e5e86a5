"""Attacks, each in a process of its own, so that the crowd's clock is not theirs.

    python -m tests.hostile.attacks NAME PORT

Each ends by itself, and prints what it saw as one line of JSON.
"""

import contextlib
import ctypes
import errno
import itertools
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

from catenary.wire.frames import CONTINUATION, PING, TEXT
from tests.parts.raw_socket import command, masked, upgrade

SECONDS = 2.0
SO_ATTACH_FILTER = 26


def connected(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def welcomed(port: int) -> socket.socket:
    """A client that the server has let in."""
    client = connected(port)
    client.sendall(upgrade())
    read = b""
    while b'"welcome"' not in read:
        read += client.recv(4096)
    return client


def until(seconds: float) -> Iterator[int]:
    """Counts until then."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() > end:
            return
        yield number


def status(client: socket.socket) -> str:
    """The first line of an answer; what else there is where there is none."""
    try:
        return client.recv(4096).split(b"\r\n")[0].decode("latin-1") or "closed"
    except ConnectionError:
        return "reset"


def heads(port: int) -> Counter[str]:
    """Heads that are too long, have too many lines, or take a careless pattern half a minute."""
    bombs = (
        b"GET /cable HTTP/1.1\r\nA: " + b"x" * 70_000,
        b"GET /elsewhere HTTP/1.1\r\nA: " + b"x" * 70_000,
        b"GET /cable HTTP/1.1\r\n" + b"A:b\r\n" * 10_000 + b"\r\n",
        b"GET /cable HTTP/1.1\r\nA: " + b" " * 60_000 + b"\x01\r\n\r\n",
    )
    seen: Counter[str] = Counter()
    for number in until(SECONDS):
        with connected(port) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(bombs[number % len(bombs)])
            seen[status(client)] += 1
    return seen


def trickle(
    clients: list[socket.socket], data: bytes, seen: Counter[str], code: int = 1008
) -> Counter[str]:
    """Sends everybody a byte now and then, until all were sent away; counts their answers, and close frames with ``code``."""
    selector = selectors.DefaultSelector()
    for client in clients:
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ, bytearray())
    for at in until(8):
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            with contextlib.suppress(OSError):
                key.fileobj.send(data[at % len(data) :][:1])
        for key, _ in selector.select(0.1):
            assert isinstance(key.fileobj, socket.socket)
            try:
                read = key.fileobj.recv(4096)
            except ConnectionError:
                read = b""
            key.data.extend(read)
            if not read:
                selector.unregister(key.fileobj)
                said = bytes(key.data)
                close = said.find(code.to_bytes(2, "big"))
                seen[said[:12].decode("latin-1") if close < 0 else str(code)] += 1
        if not selector.get_map():
            break
    seen["open"] = len(selector.get_map())
    return seen


def slow_heads(port: int) -> Counter[str]:
    """A slow loris: a byte of a head now and then."""
    return trickle([connected(port) for _ in range(200)], upgrade(), Counter())


def slow_frames(port: int) -> Counter[str]:
    """The same with a message, with pings in between its fragments for half of them."""
    clients = [welcomed(port) for _ in range(200)]
    for number, client in enumerate(clients):
        if number % 2:
            client.sendall(masked(b"x", first=TEXT))
        else:
            client.sendall(masked(b"x" * 1000)[:20])
    trickling = masked(b"", PING)
    return trickle(clients, trickling, Counter())


def introductions(port: int) -> Counter[str]:
    """Clients of GraphQL that send pings, and never say who they are."""
    clients = [connected(port) for _ in range(200)]
    for client in clients:
        client.sendall(upgrade("/graphql", protocol="graphql-transport-ws"))
    return trickle(clients, masked(b"", PING), Counter(), 4408)


def flood(clients: list[socket.socket], data: Callable[[], bytes], seconds: float) -> Counter[str]:
    """As much as everybody takes; counts what is answered."""
    selector = selectors.DefaultSelector()
    seen: Counter[str] = Counter()
    for client in clients:
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, bytearray())
    for _ in until(seconds):
        for key, events in selector.select(0.1):
            assert isinstance(key.fileobj, socket.socket)
            if events & selectors.EVENT_WRITE:
                if not key.data:
                    key.data.extend(data())
                with contextlib.suppress(BlockingIOError):
                    sent = key.fileobj.send(key.data)
                    del key.data[:sent]
                    seen["sent"] += sent
            if events & selectors.EVENT_READ:
                with contextlib.suppress(BlockingIOError):
                    read = key.fileobj.recv(65536)
                    seen["confirmed"] += read.count(b"confirm_subscription")
                    seen["rejected"] += read.count(b"reject_subscription")
                    if not read:
                        seen["closed"] += 1
                        selector.unregister(key.fileobj)
    return seen


_number = itertools.count()


def _stream(padding: str = "") -> str:
    name = f"{next(_number)}{padding}"
    return json.dumps({"channel": "$pubsub", "stream_name": name})


def identifiers(port: int) -> Counter[str]:
    """Identifiers of 50 KB."""
    clients = [welcomed(port) for _ in range(5)]
    return flood(clients, lambda: command("subscribe", _stream("x" * 50_000)), SECONDS)


def subscriptions(port: int) -> Counter[str]:
    """Every client subscribes to stream after stream."""
    clients = [welcomed(port) for _ in range(5)]
    return flood(clients, lambda: command("subscribe", _stream()), SECONDS)


def commands(port: int) -> Counter[str]:
    """Commands that make no sense, as fast as the server takes them."""
    said = masked(b"{}") * 10_000
    return flood([welcomed(port) for _ in range(20)], lambda: said, SECONDS)


def pings(port: int) -> Counter[str]:
    """Control frames, and fragments of nothing."""
    ping = masked(b"", PING) * 10_000
    seen = flood([welcomed(port) for _ in range(10)], lambda: ping, SECONDS / 2)
    piece = masked(b"", first=CONTINUATION) * 10_000
    begun = iter([masked(b"", first=TEXT) + piece])
    return seen + flood([welcomed(port)], lambda: next(begun, piece), SECONDS / 2)


def storm(port: int) -> Counter[str]:
    """Everybody comes at once, again and again."""
    seen: Counter[str] = Counter()
    selector = selectors.DefaultSelector()
    for _ in until(SECONDS):
        while len(selector.get_map()) < 300:
            client = socket.socket()
            client.setblocking(False)
            refused = client.connect_ex(("127.0.0.1", port))
            assert refused in (0, errno.EINPROGRESS)
            selector.register(client, selectors.EVENT_WRITE)
        for key, events in selector.select(0.1):
            client = key.fileobj  # type: ignore[assignment]
            if events & selectors.EVENT_WRITE:
                client.send(upgrade())
                selector.modify(client, selectors.EVENT_READ)
                continue
            seen[status(client)] += 1
            selector.unregister(client)
            # No goodbye: a time to wait at our end would use up its ports.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    return seen


def arrivals(port: int) -> Counter[str]:
    """Everybody comes at once, and stays."""
    clients = [connected(port) for _ in range(500)]
    for client in clients:
        client.sendall(upgrade())
    print("here", flush=True)
    time.sleep(SECONDS)
    return Counter(here=len(clients))


def half_open(port: int) -> Counter[str]:
    """Clients whose machine is gone: nothing that the server sends is acknowledged any more."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    clients = [welcomed(port) for _ in range(50)]
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    time.sleep(5)
    return Counter(gone=len(clients))


ATTACKS: dict[str, Callable[[int], Counter[str]]] = {
    each.__name__: each
    for each in (
        heads,
        slow_heads,
        slow_frames,
        introductions,
        identifiers,
        subscriptions,
        commands,
        pings,
        storm,
        arrivals,
        half_open,
    )
}


def main(attacks: dict[str, Callable[[int], Counter[str]]]) -> None:
    """Runs one of some attacks, as the command line says."""
    os.nice(19)
    print(json.dumps(attacks[sys.argv[1]](int(sys.argv[2]))))


if __name__ == "__main__":
    main(ATTACKS)
