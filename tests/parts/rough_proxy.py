"""A proxy that treats a server's bytes as a bad network does: in pieces, late, cut short, or not at all.

Knows: bytes. Does not know: their meaning. (``tcp_relay`` breaks connections and nothing else.)
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.parts.ports import free_port

CHUNK = 65_536


@dataclass
class Roughness:
    """Treatment of the bytes that a server sends. May be changed while the proxy runs.

    They pass in pieces of ``piece_bytes``, those to the server in pieces of ``piece_bytes_up``; 0 passes
    them on as they come. ``piece_pause_s`` keeps the pieces apart: the kernel joins those that are sent at
    once. Each piece from the server is ``delay_s`` late. A connection is cut when ``cut_after_bytes`` went through it. While ``is_silent``, nothing goes through, either way;
    while ``is_silent_up`` nothing to the server, while ``is_silent_down`` nothing from it. ``bytes_per_s`` limits each
    direction of each connection; 0 does not.
    """

    piece_bytes: int = 0
    piece_bytes_up: int = 0
    piece_pause_s: float = 0.0
    delay_s: float = 0.0
    cut_after_bytes: int | None = None
    bytes_per_s: int = 0
    is_silent: bool = False
    is_silent_up: bool = False
    is_silent_down: bool = False


class RoughProxy:
    """Between its own port and a server's, on this machine."""

    def __init__(self, target_port: int, rough: Roughness) -> None:
        self.rough = rough
        self.port = free_port()
        self.connections = 0
        self.cuts = 0
        """Connections that ended by ``cut_after_bytes``."""
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._abandoned: set[int] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Breaks every connection."""
        with self._lock:
            ends, self._open = self._open, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> int:
        """Makes every connection half-open: each end believes that it lasts, and nothing arrives any more. New ones work.
        Returns how many there are."""
        with self._lock:
            self._abandoned |= {id(end) for end in self._open}
            return len(self._open) // 2

    def close(self) -> None:
        """Breaks everything and ends."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.rough.is_silent = self.rough.is_silent_up = self.rough.is_silent_down = False
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                # A new object may have the id of an old one.
                self._abandoned -= {id(client), id(server)}
                self._open += [client, server]
            ends = threading.Barrier(2)
            for pump in (self._to_server, self._to_client):
                thread = threading.Thread(target=self._run, args=(pump, client, server, ends))
                self._threads.append(thread)
                thread.start()

    def _run(
        self,
        pump: Callable[[socket.socket, socket.socket], None],
        client: socket.socket,
        server: socket.socket,
        ends: threading.Barrier,
    ) -> None:
        with suppress(OSError):
            pump(client, server)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        # Only then: a socket that is closed may not be used by the other direction.
        if ends.wait() == 0:
            client.close()
            server.close()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(CHUNK):
            while self.rough.is_silent or self.rough.is_silent_up:
                time.sleep(0.01)
            if id(client) in self._abandoned:
                continue
            self._throttle(len(data))
            step = self.rough.piece_bytes_up or len(data)
            for at in range(0, len(data), step):
                server.sendall(data[at : at + step])
                if self.rough.piece_pause_s:
                    time.sleep(self.rough.piece_pause_s)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        while data := server.recv(CHUNK):
            while self.rough.is_silent or self.rough.is_silent_down:
                time.sleep(0.01)
            if id(client) in self._abandoned:
                continue
            self._throttle(len(data))
            step = self.rough.piece_bytes or len(data)
            for at in range(0, len(data), step):
                piece = data[at : at + step]
                if self.rough.delay_s:
                    time.sleep(self.rough.delay_s)
                left = self._left(passed)
                client.sendall(piece[:left])
                if self.rough.piece_pause_s:
                    time.sleep(self.rough.piece_pause_s)
                passed += len(piece)
                if self._left(passed) == 0:
                    self.cuts += 1
                    return

    def _throttle(self, size: int) -> None:
        if self.rough.bytes_per_s:
            time.sleep(size / self.rough.bytes_per_s)

    def _left(self, passed: int) -> int | None:
        """How many bytes may still go through; None for any number."""
        limit = self.rough.cut_after_bytes
        return None if limit is None else max(limit - passed, 0)


@contextmanager
def rough_proxy(target_port: int, **rough: float | None) -> Iterator[RoughProxy]:
    """A proxy for the length of a with block."""
    proxy = RoughProxy(target_port, Roughness(**rough))  # type: ignore[arg-type]
    try:
        yield proxy
    finally:
        proxy.close()
