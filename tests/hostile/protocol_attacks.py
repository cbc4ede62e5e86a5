"""Attacks on the endpoints of single protocols, as those of :mod:`tests.hostile.attacks`.

python -m tests.hostile.protocol_attacks NAME PORT
"""

import contextlib
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable

from catenary.wire.frames import PING
from tests.hostile.attacks import SECONDS, connected, flood, main, status, trickle, until
from tests.parts.raw_socket import masked, upgrade

CHUNK = b"1\r\n1\r\n"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """A request; its body may be incomplete."""
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: t", *headers, "", "")).encode() + body


def read_to_end(client: socket.socket, seen: Counter[str]) -> None:
    """Counts the status of the response that a client gets before the end of its connection."""
    read = b""
    try:
        while more := client.recv(65536):
            read += more
    except ConnectionError:
        seen["reset"] += not read
    if read:
        seen[read.split(b"\r\n")[0].decode("latin-1")] += 1


def reset(client: socket.socket) -> None:
    """Leaves without a goodbye, and without a port that waits."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def polls(port: int) -> Counter[str]:
    """Opens long-polling sessions and abandons them: half of the clients do not wait for the response, the others guess
    the id of another session."""
    opening = request("POST", "/lp", "Content-Length: 0")
    seen: Counter[str] = Counter()
    for number in until(SECONDS):
        client = connected(port)
        client.sendall(opening)
        if number % 2:
            seen["opened"] += status(client) == "HTTP/1.1 200 OK"
            guessed = f"X-Anycable-Poll-ID: {number:040d}"
            client.sendall(request("POST", "/lp", guessed, "Content-Length: 0"))
            seen[status(client)] += 1
        reset(client)
    return seen


def slow_bodies(port: int) -> Counter[str]:
    """Bodies of long polling and of durable streams that come a byte now and then."""
    heads = (
        request("POST", "/lp", "Content-Length: 10000"),
        request("POST", "/lp", CHUNKED),
        request("POST", "/ds/slow", JSON, "Content-Length: 1000000"),
        request("POST", "/ds/slow", JSON, CHUNKED),
    )
    clients = [connected(port) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(heads[number % len(heads)])
    return trickle(clients, CHUNK, Counter())


def tiny_chunks(port: int) -> Counter[str]:
    """Bodies in chunks of one byte, by many clients at once."""
    heads = (request("POST", "/lp", CHUNKED), request("POST", "/ds/tiny", JSON, CHUNKED))
    seen: Counter[str] = Counter()
    for number in until(SECONDS):
        clients = [connected(port) for _ in range(10)]
        said = heads[number % 2] + CHUNK * 17_000
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.send(said)
        for client in clients:
            client.settimeout(10)
            seen[status(client)] += 1
            reset(client)
    return seen


def readers(port: int) -> Counter[str]:
    """Readers of a large durable stream: half of them wait at its end, the others read nothing of it."""
    message = json.dumps("x" * 1000)
    written = f"[{','.join([message] * 1000)}]".encode()
    length = f"Content-Length: {len(written)}"
    # Another one each time: the attack may be repeated.
    path = f"/ds/large-{time.monotonic_ns()}"
    with connected(port) as writer:
        writer.sendall(request("PUT", path, JSON, "Content-Length: 0"))
        assert status(writer) == "HTTP/1.1 201 Created"
        writer.sendall(request("POST", path, JSON, length, body=written))
        assert status(writer) == "HTTP/1.1 204 No Content"
    seen: Counter[str] = Counter()
    waiting, silent = [], []
    for number in range(100):
        client = socket.socket()
        client.settimeout(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        if number % 2:
            target = f"{path}?offset=now&live=long-poll"
            waiting.append(client)
        else:
            target = f"{path}?offset=-1&live=sse"
            silent.append(client)
        client.sendall(request("GET", target, "Connection: close"))
    for client in waiting:
        read_to_end(client, seen)
    for client in silent:
        seen["silent"] += client.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
        reset(client)
    return seen


def _pusher(port: int) -> socket.socket:
    """A client of Pusher's protocol."""
    client = connected(port)
    client.sendall(upgrade("/app/key?protocol=7"))
    read = b""
    while b"connection_established" not in read:
        read += client.recv(4096)
    return client


def pusher_events(port: int) -> Counter[str]:
    """Client events for channels that take none, and subscriptions with signatures that are wrong."""
    forbidden = {"event": "client-a", "channel": "public", "data": "x" * 100}
    wrong = {"channel": "private-a", "auth": f"key:{'0' * 64}"}
    subscribe = {"event": "pusher:subscribe", "data": wrong}
    said = b"".join(masked(json.dumps(each).encode()) for each in (forbidden, subscribe)) * 2000
    return flood([_pusher(port) for _ in range(5)], lambda: said, SECONDS)


def pusher_api(port: int) -> Counter[str]:
    """Large requests to Pusher's API whose signatures are wrong."""
    query = f"auth_key=key&auth_timestamp=1&auth_version=1.0&auth_signature={'0' * 64}"
    head = request("POST", f"/apps/app/events?{query}", JSON, "Content-Length: 16000000")
    seen: Counter[str] = Counter()
    for _ in until(SECONDS):
        client = connected(port)
        try:
            client.sendall(head + b"x" * 1_000_000)
        except ConnectionError:
            seen["cut"] += 1
        seen[status(client)] += 1
        reset(client)
    return seen


def stations(port: int) -> Counter[str]:
    """Charging stations that send pings, and never a message."""
    clients = [connected(port) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(upgrade(f"/ocpp/{number}", protocol="ocpp1.6"))
    return trickle(clients, masked(b"", PING), Counter())


ATTACKS: dict[str, Callable[[int], Counter[str]]] = {
    each.__name__: each
    for each in (
        polls,
        slow_bodies,
        tiny_chunks,
        readers,
        pusher_events,
        pusher_api,
        stations,
    )
}

if __name__ == "__main__":
    main(ATTACKS)
