"""Publishes over NATS, with a small client that only publishes.

A PING follows each publication; its PONG confirms that the server has accepted the publication.
Sources: docs/broadcasting.md, "NATS" (anycable/anycable); docs.nats.io, "Client Protocol".
"""

import socket
import ssl
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

import msgspec

from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.config.addresses import NatsAddress, nats_login, server_address
from catenary.errors import BackendError, BackendRefused, ConfigError, TooLarge

SUBJECT: Final = "__anycable__"
MAX_LINE: Final = 64 * 1024
"""The longest line is the server's INFO, which lists the servers of the cluster."""

_info: Final = msgspec.json.Decoder(dict[str, Any]).decode


class NatsPublisher(OrderedPublisher):
    """Publishes to core NATS: servers that are not connected at that moment do not get it."""

    def __init__(
        self, servers: str | Sequence[str], *, subject: str = SUBJECT, timeout_s: float = 5.0
    ) -> None:
        """``servers`` are URLs, or one text with commas between them: ``nats://USER:PASSWORD@HOST:PORT`` or
        ``tls://…``; the first that answers is used. Raises :class:`ConfigError`."""
        super().__init__()
        given = servers.split(",") if isinstance(servers, str) else servers
        try:
            self._addresses = [server_address(each.strip()) for each in given]
        except ValueError as error:
            raise ConfigError(f"expected URLs of NATS: {error}") from error
        if not self._addresses:
            raise ConfigError("expected a URL of NATS, got none")
        if not subject or any(each.isspace() for each in subject):
            raise ConfigError(f"expected the subject to be one word, got {subject!r}")
        self._head = f"PUB {subject} ".encode()
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._lines: BinaryIO
        self._max_payload = 0

    def _deliver(self, raw: bytes) -> None:
        is_kept = self._socket is not None
        try:
            self._connect()
            self._send(raw)
        except (OSError, EOFError) as error:
            self._hang_up()
            if not is_kept or isinstance(error, TimeoutError):
                raise BackendError(f"NATS refused the publication: {error}") from error
            # A connection of an earlier publication, which was lost since.
            self._deliver(raw)
        except BackendError:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._lines.close()
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        if self._socket is not None:
            return
        failures: list[str] = []
        for address in self._addresses:
            try:
                self._greet(address)
            except (OSError, EOFError, msgspec.DecodeError) as error:
                self._hang_up()
                failures.append(f"{address.url}: {error}")
            else:
                return
        raise BackendError(f"no NATS server can be reached: {'; '.join(failures)}")

    def _greet(self, address: NatsAddress) -> None:
        self._open(socket.create_connection((address.host, address.port), self._timeout_s))
        word, _, text = self._lines.readline(MAX_LINE).partition(b" ")
        if word != b"INFO":
            raise EOFError("expected a NATS server")
        info = _info(text)
        self._max_payload = int(info.get("max_payload", 0))
        if address.is_encrypted or info.get("tls_required"):
            assert self._socket is not None
            context = ssl.create_default_context()
            self._open(context.wrap_socket(self._socket, server_hostname=address.host))
        self._write(b"CONNECT %b\r\n" % msgspec.json.encode(nats_login(address)))
        self._wait()

    def _open(self, opened: socket.socket) -> None:
        self._socket = opened
        self._lines = opened.makefile("rb")

    def _send(self, raw: bytes) -> None:
        if self._max_payload and len(raw) > self._max_payload:
            raise TooLarge(
                f"expected at most {self._max_payload} bytes (max_payload of NATS), got {len(raw)}"
            )
        self._write(b"%b%d\r\n%b\r\n" % (self._head, len(raw), raw))
        self._wait()

    def _write(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.sendall(data + b"PING\r\n")

    def _wait(self) -> None:
        """Reads up to the PONG: everything sent before is accepted."""
        while (line := self._lines.readline(MAX_LINE)) != b"PONG\r\n":
            if line.startswith(b"-ERR 'Permissions Violation"):
                raise BackendRefused(f"NATS refused the publication: {_words(line)}")
            if line.startswith(b"-ERR 'Maximum Payload"):
                raise TooLarge(f"NATS refused the publication: {_words(line)}")
            if line.startswith(b"-ERR"):
                # The server closes the connection, for example of a client that was silent for long.
                raise EOFError(_words(line))
            if line == b"PING\r\n" and self._socket is not None:
                self._socket.sendall(b"PONG\r\n")
            elif not line:
                raise EOFError("the server closed the connection")


def _words(line: bytes) -> str:
    return line.decode(errors="replace").removeprefix("-ERR").strip()
