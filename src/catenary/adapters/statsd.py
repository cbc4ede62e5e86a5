"""A UDP socket to a StatsD server.

UDP never reports that a packet has arrived, and reports only some failures: a refusal (ICMP) arrives with a later
packet. Packets that are known to be lost are counted; failures of the network or the name server disturb nothing else.
Knows: names, addresses, packets. Does not know: what is in them.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from typing import Any, Final

from catenary.config.urls import joined
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.statsd")

RESOLVE_S: Final = 60.0
"""Interval at which the name is resolved again, because the server may have moved."""

_Address = tuple[int, Any]
"""A family and the address of a socket of it."""


class StatsdSocket:
    """Sends packets to the first address of a name that does not refuse them."""

    __slots__ = (
        "_addresses",
        "_counters",
        "_has_failed",
        "_last",
        "_lookups",
        "_reports",
        "_resolve_s",
        "_service",
        "_socket",
        "_target",
    )

    def __init__(
        self,
        host: str,
        port: int,
        *,
        counters: Counters,
        supervisor: Supervisor | None = None,
        resolve_s: float = RESOLVE_S,
    ) -> None:
        self._target: Final = (host, port)
        self._counters = counters
        self._resolve_s = resolve_s
        self._addresses: list[_Address] = []
        """Those of the name; the first is used, and becomes the last when it fails."""
        self._socket: socket.socket | None = None
        self._last = b""
        """The packet sent last to the present address: the one that a refusal is about."""
        self._lookups = Backoff()
        self._reports = Backoff()
        self._has_failed = False
        self._service = Service("StatsD address lookup", self._resolve_regularly, supervisor)

    def __str__(self) -> str:
        return joined(*self._target)

    @property
    def is_ready(self) -> bool:
        """Whether an address is known. Until then nothing is sent, so a report should wait."""
        return bool(self._addresses)

    async def start(self) -> None:
        """Begins to resolve the name; does not wait for the answer."""
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Closes the socket."""
        await self._service.stop()
        self._close_socket()

    def send(self, packets: Iterable[bytes]) -> None:
        """Sends the packets of a report. Counts the lines that are known to be lost, and logs why."""
        error: OSError | None = None
        for packet in packets:
            error = self._send(packet) or error
        if error is None:
            if self._reports.works() and self._has_failed:
                _log.info("StatsD at %s accepts metrics again", self)
            self._has_failed = False
            return
        self._has_failed = True
        pause = self._reports.failed()
        if pause.is_logged:
            _log.warning(
                "Metrics for StatsD at %s were lost: %s (report %d in a row)",
                self,
                error.strerror or error,
                pause.failures,
            )

    def _send(self, packet: bytes) -> OSError | None:
        """Tries each address, and the first one again at the end. Returns the last error if a packet is lost: this one, or
        the one before it."""
        waiting = [packet]
        error: OSError | None = None
        is_lost = False
        for _ in range(len(self._addresses) + 1):
            try:
                while waiting:
                    self._connected().send(waiting[0])
                    self._last = waiting.pop(0)
            except ConnectionRefusedError as refusal:
                error = refusal
                refused, self._last = self._last, b""
                if len(self._addresses) > 1:
                    waiting = [refused, *waiting] if refused else waiting
                    self._use_next_address()
                else:
                    is_lost = True
                    self._count_lost(refused)
            except OSError as failure:
                error = failure
                self._use_next_address()
            else:
                return error if is_lost else None
        for each in waiting:
            self._count_lost(each)
        return error

    def _connected(self) -> socket.socket:
        if self._socket is None:
            family, address = self._addresses[0]
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.connect(address)
        return self._socket

    def _use_next_address(self) -> None:
        self._close_socket()
        self._addresses.append(self._addresses.pop(0))

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _count_lost(self, packet: bytes) -> None:
        self._counters.statsd_lost_lines_total += packet.count(b"\n") + 1

    async def _resolve_regularly(self) -> None:
        while True:
            pause_s = await self._resolve()
            await asyncio.sleep(pause_s)

    async def _resolve(self) -> float:
        """Looks the name up; the previous addresses stay if that fails. Returns the pause before the next lookup."""
        host, port = self._target
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
            pause = self._lookups.failed()
            if pause.is_logged:
                _log.warning(
                    "The StatsD server %s can't be resolved: %s (attempt %d in a row)",
                    host,
                    error,
                    pause.failures,
                )
            return pause.seconds
        self._lookups.works()
        addresses: list[_Address] = [(family, address) for family, *_, address in found]
        if set(addresses) != set(self._addresses):  # The order may change by itself.
            self._close_socket()
            self._addresses = addresses
        return self._resolve_s
