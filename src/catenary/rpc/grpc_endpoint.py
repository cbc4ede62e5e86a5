"""The servers behind a target: which addresses there are, and a connection to each that comes back.

Sources: connection-backoff.md, naming.md (grpc/grpc, doc/).
Knows: when to connect and to look names up. Does not know: calls.
"""

import asyncio
import logging
import random
import ssl
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from catenary.rpc.grpc_connection import GrpcConnection, Owner, Pace
from catenary.rpc.grpc_targets import Address, Target, resolve
from catenary.supervision.service import Service, Supervisor
from catenary.wire import http2
from catenary.wire.hpack import Field
from catenary.wire.http2_frames import NO_ERROR

log = logging.getLogger("catenary.rpc")

_BACKOFF_FACTOR: Final = 1.6
_JITTER: Final = 0.2
_TOO_MANY_PINGS: Final = b"too_many_pings"
"""What a server says that wants fewer: from then on it gets half as many (gRFC A8)."""


class Chooser(Owner, Protocol):
    """Who is told which connections can take calls."""

    def add(self, connection: GrpcConnection, /) -> None:
        """It can, from now on."""
        ...

    def remove(self, connection: GrpcConnection, /) -> None:
        """It can't any more."""
        ...

    def note_trouble(self) -> None:
        """An address or a name can't be reached."""
        ...


class Wiring(msgspec.Struct, frozen=True):
    """How connections are made: with TLS where there is a context, and ``fields`` in each request.

    ``supervisor`` watches over what makes them.
    """

    context: ssl.SSLContext | None
    fields: tuple[Field, ...]
    max_body_bytes: int
    pace: Pace
    supervisor: Supervisor | None = None


class Group:
    """A target and the endpoints behind it."""

    __slots__ = ("_chooser", "_endpoints", "_service", "_target", "_trouble", "_wanted", "_wiring")

    def __init__(self, target: Target, wiring: Wiring, chooser: Chooser) -> None:
        self._target = target
        self._wiring = wiring
        self._chooser = chooser
        self._endpoints: dict[Address, Endpoint] = {}
        self._trouble = ""
        self._wanted = asyncio.Event()
        """An address could not be reached: there may be others by now."""
        self._service = Service(
            f"gRPC name lookup of {target.host}", self._follow, wiring.supervisor
        )
        self._service.start()

    @property
    def trouble(self) -> str:
        """Why nothing here can be reached; empty while something is, or may soon be."""
        if not self._endpoints:
            return self._trouble
        troubles = [endpoint.trouble for endpoint in self._endpoints.values()]
        return troubles[0] if all(troubles) else ""

    async def close(self) -> None:
        """Makes no more connections."""
        await self._service.stop()
        await asyncio.gather(*(endpoint.retire() for endpoint in self._endpoints.values()))

    async def _follow(self) -> None:
        """Looks the name up: again where an address is in trouble, and now and then."""
        pace = self._wiring.pace
        while True:
            self._wanted.clear()
            try:
                await self._adopt(await resolve(self._target))
            except (OSError, UnicodeError) as error:
                self._trouble = f"no address of {self._target.host}: {error}"
                log.debug("%s", self._trouble)
                self._chooser.note_trouble()
            if self._target.addresses:
                # They stand in the target, and stay what they are.
                await asyncio.Event().wait()
            await asyncio.sleep(
                pace.least_between_lookups_s if self._endpoints else pace.longest_backoff_s
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pace.most_between_lookups_s if self._endpoints else 0):
                    await self._wanted.wait()

    async def _adopt(self, addresses: tuple[Address, ...]) -> None:
        """Connects to what is new, and lets go of what is gone."""
        for address in addresses:
            if address not in self._endpoints:
                self._endpoints[address] = Endpoint(
                    self._target, address, self._wiring, self._chooser, self._wanted
                )
        gone = self._endpoints.keys() - set(addresses)
        await asyncio.gather(*(self._endpoints.pop(address).retire() for address in gone))


class Endpoint:
    """One address: connects, and connects again with growing pauses."""

    __slots__ = (
        "_address",
        "_chooser",
        "_keepalive_s",
        "_service",
        "_target",
        "_wanted",
        "_was_shut",
        "_wiring",
        "trouble",
    )

    def __init__(
        self,
        target: Target,
        address: Address,
        wiring: Wiring,
        chooser: Chooser,
        wanted: asyncio.Event,
    ) -> None:
        """``wanted`` is set when the address is in trouble."""
        self._target = target
        self._address = address
        self._wiring = wiring
        self._chooser = chooser
        self._wanted = wanted
        self._keepalive_s = wiring.pace.keepalive_s
        self._was_shut = False
        self.trouble = ""
        """Why it can't be reached; empty while it is, or may soon be."""
        self._service = Service(f"gRPC connection to {address}", self._keep, wiring.supervisor)
        self._service.start()

    async def retire(self) -> None:
        """Connects no more; calls under way are answered."""
        await self._service.stop()

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        pace = self._wiring.pace
        backoff_s = pace.first_backoff_s
        while True:
            began = clock()
            try:
                connection = await self._dial()
            except OSError as error:
                self._note(error)
            else:
                self.trouble = ""
                opened = clock()
                await self._use(connection)
                if clock() - opened > pace.longest_backoff_s:
                    backoff_s = pace.first_backoff_s
            self._wanted.set()
            jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
            await asyncio.sleep(began + backoff_s * jitter - clock())
            backoff_s = min(backoff_s * _BACKOFF_FACTOR, pace.longest_backoff_s)

    async def _dial(self) -> GrpcConnection:
        """A connection that takes calls. Raises OSError."""
        loop = asyncio.get_running_loop()
        wiring = self._wiring
        address = self._address
        authority = (b":authority", self._target.authority.encode())
        connection = GrpcConnection(
            http2.Connection((authority, *wiring.fields), wiring.max_body_bytes),
            pace=wiring.pace,
            keepalive_s=self._keepalive_s,
            owner=self._chooser,
        )
        name = None if wiring.context is None else self._target.host
        try:
            async with asyncio.timeout(wiring.pace.connect_s) as limit:
                if address.path:
                    await loop.create_unix_connection(
                        lambda: connection, address.path, ssl=wiring.context, server_hostname=name
                    )
                else:
                    await loop.create_connection(
                        lambda: connection,
                        address.ip,
                        address.port,
                        ssl=wiring.context,
                        server_hostname=name,
                    )
                is_open = await connection.opened
        except BaseException as error:
            connection.abort()
            if isinstance(error, TimeoutError) and limit.expired():
                raise TimeoutError(f"none within {wiring.pace.connect_s:g} s") from None
            raise
        if not is_open:
            raise ConnectionError(connection.reason)
        return connection

    async def _use(self, connection: GrpcConnection) -> None:
        """Until it takes no more calls, or is not wanted any more."""
        self._chooser.add(connection)
        try:
            await asyncio.wait((connection.ending,))
        finally:
            self._chooser.remove(connection)
            connection.retire()
        if connection.was_shut and not self._was_shut:
            log.warning("%s allows no streams: connecting again", self._target.authority)
        self._was_shut = connection.was_shut
        goodbye = connection.goodbye
        if goodbye is not None and goodbye.debug == _TOO_MANY_PINGS:
            self._keepalive_s *= 2
            log.warning(
                "%s wants fewer pings: one in %g s", self._target.authority, self._keepalive_s
            )
        elif goodbye is not None and goodbye.code != NO_ERROR:
            log.warning("%s closes with HTTP/2 code %d", self._target.authority, goodbye.code)

    def _note(self, error: OSError) -> None:
        reason = str(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"TLS verification failed: {error.verify_message}"
        elif isinstance(error, ssl.SSLError):
            reason = f"TLS handshake failed: {error.reason or error}"
        self.trouble = f"no connection to {self._address}: {reason}"
        log.debug("%s", self.trouble)
        self._chooser.note_trouble()
