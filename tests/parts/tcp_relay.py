"""A relay in front of a server, whose connections a test can break as a network does.

Knows: bytes. Does not know: their meaning.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.parts.ports import free_port

CHUNK = 65_536


class TcpRelay:
    """Passes bytes on between its own port and a server's, on this machine."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silent: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def aim(self, target_port: int) -> None:
        """Connects to another server from now on; connections break if it does not listen."""
        self.target_port = target_port

    def cut(self, *, half_open: bool = False) -> int:
        """Breaks every connection, and returns their number; a half-open one looks alive to the server."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
            if half_open:
                self._silent += [server for _, server in pairs]
        for client, server in pairs:
            _shut(client)
            if not half_open:
                _shut(server)
        return len(pairs)

    def close(self) -> None:
        """Breaks everything and ends."""
        _shut(self._listener)
        self._listener.close()
        self.cut()
        for server in self._silent:
            _shut(server)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, server))
            ends = threading.Barrier(2)
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._pump, args=(source, sink, ends))
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, ends: threading.Barrier) -> None:
        """One direction, to its end; an end on one side is passed on unless that is cut off."""
        with suppress(OSError):
            while data := source.recv(CHUNK):
                with suppress(OSError):
                    sink.sendall(data)
        with self._lock:
            is_silent = sink in self._silent or source in self._silent
        if not is_silent:
            _shut(sink)
        # Only then: a socket that is closed may not be used by the other direction.
        ends.wait()
        source.close()


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def tcp_relay(target_port: int) -> Iterator[TcpRelay]:
    """A relay for the length of a with block, accepting connections when it begins."""
    relay = TcpRelay(target_port)
    try:
        yield relay
    finally:
        relay.close()
