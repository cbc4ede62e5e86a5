"""gRPC over TLS without verification.

grpcio can't leave a server's certificate unchecked. So it speaks plain HTTP/2 to a Unix socket that
only this user can reach, and each of its connections is carried on over TLS that verifies nothing.
Limits: of several addresses behind one name, each connection takes the first that answers, and a
server that reads the scheme of a request sees "http". Meant for development, as the option is.
"""

import asyncio
import logging
import shutil
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from catenary.errors import ConfigError

log = logging.getLogger("catenary.rpc")

_CHUNK_BYTES: Final = 65_536
_CONNECT_TIMEOUT_S: Final = 5.0

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TlsRelay:
    """Carries connections from a Unix socket to one address."""

    __slots__ = ("_context", "_directory", "_host", "_port", "_running", "_server")

    def __init__(self, target: str, context: ssl.SSLContext) -> None:
        """``target`` is a gRPC target that names one host. Raises :class:`ConfigError`."""
        self._host, self._port = _address(target)
        context.set_alpn_protocols(["h2"])
        self._context = context
        self._directory: Path | None = None
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def authority(self) -> str:
        """What requests are addressed to, though they go to a socket."""
        return f"{self._host}:{self._port}"

    async def start(self) -> str:
        """Listens, and returns the target that gRPC connects to."""
        self._directory = Path(tempfile.mkdtemp(prefix="catenary-"))
        path = self._directory / "rpc.sock"
        self._server = await asyncio.start_unix_server(self._accept, path)
        return f"unix:{path}"

    async def close(self) -> None:
        """Breaks what is under way and leaves nothing behind."""
        if self._server is not None:
            self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                remote = await asyncio.open_connection(self._host, self._port)
            try:
                # A step of its own: a handshake that is cancelled leaves us a connection to break.
                await remote[1].start_tls(self._context, server_hostname=self._host)
                await _exchange((reader, writer), remote)
            finally:
                await _break(remote[1])
        except OSError as error:  # as are TimeoutError and ssl.SSLError
            log.warning("no TLS connection to %s: %s", self.authority, error)
        finally:
            await _break(writer)


async def _exchange(one: _Stream, other: _Stream) -> None:
    """Copies both ways until one side ends: HTTP/2 has no use for a half-closed connection."""
    copies = (
        asyncio.create_task(_copy(one[0], other[1])),
        asyncio.create_task(_copy(other[0], one[1])),
    )
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)


async def _break(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    except OSError as error:
        log.debug("a relayed connection broke: %s", error)


def _address(target: str) -> tuple[str, int]:
    """Host and port of "host:port", "dns:///host:port" or "dns://server/host:port"."""
    scheme, _, rest = target.rpartition("://")
    address = rest.rpartition("/")[2] if scheme == "dns" else rest
    host, _, port = address.rpartition(":")
    if scheme not in ("", "dns") or not port.isdigit() or not host:
        raise ConfigError(
            f"rpc_host: expected host:port or dns:///host:port with rpc_tls_verify=false, "
            f"got {target!r}"
        )
    return host.strip("[]"), int(port)
