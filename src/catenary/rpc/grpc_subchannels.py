"""Subchannels: one per address of a target, each with a connection that is made again when it ends.

Sources: connection-backoff.md, naming.md (grpc/grpc, doc/).
Knows: when to connect and when to resolve names. Does not know: calls.
"""

import asyncio
import logging
import random
import ssl
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from catenary.rpc.grpc_connection import ConnectionPool, GrpcConnection, GrpcTimeouts
from catenary.rpc.grpc_targets import Address, GrpcTarget, resolve
from catenary.supervision.service import Service, Supervisor
from catenary.wire import http2
from catenary.wire.hpack import Field
from catenary.wire.http2_frames import NO_ERROR

log = logging.getLogger("catenary.rpc")

_BACKOFF_FACTOR: Final = 1.6
_JITTER: Final = 0.2
_TOO_MANY_PINGS: Final = b"too_many_pings"
"""The debug data of a server that wants fewer keepalive PINGs: it gets half as many from then on (gRFC A8)."""


class Picker(ConnectionPool, Protocol):
    """Picks a connection for each call, among those that were added."""

    def add(self, connection: GrpcConnection, /) -> None:
        """The connection takes calls from now on."""
        ...

    def remove(self, connection: GrpcConnection, /) -> None:
        """The connection takes no more calls."""
        ...

    def note_trouble(self) -> None:
        """An address can't be reached, or a name can't be resolved."""
        ...


class ChannelConfig(msgspec.Struct, frozen=True):
    """How connections are made: with TLS if there is a context, and with ``fields`` in each request. ``supervisor``
    watches the services that make them."""

    context: ssl.SSLContext | None
    fields: tuple[Field, ...]
    max_body_bytes: int
    timeouts: GrpcTimeouts
    supervisor: Supervisor | None = None


class ResolvedTarget:
    """A target, resolved again and again, and its subchannels."""

    __slots__ = ("_config", "_picker", "_service", "_subchannels", "_target", "_trouble", "_wanted")

    def __init__(self, target: GrpcTarget, config: ChannelConfig, picker: Picker) -> None:
        self._target = target
        self._config = config
        self._picker = picker
        self._subchannels: dict[Address, Subchannel] = {}
        self._trouble = ""
        self._wanted = asyncio.Event()
        """Set when an address can't be reached: the name may have others by now."""
        self._service = Service(
            f"gRPC name lookup of {target.host}", self._follow, config.supervisor
        )
        self._service.start()

    @property
    def trouble(self) -> str:
        """Why no address of the target can be reached; empty while one is, or may soon be."""
        if not self._subchannels:
            return self._trouble
        troubles = [subchannel.trouble for subchannel in self._subchannels.values()]
        return troubles[0] if all(troubles) else ""

    async def close(self) -> None:
        """Makes no more connections."""
        await self._service.stop()
        await asyncio.gather(*(subchannel.retire() for subchannel in self._subchannels.values()))

    async def _follow(self) -> None:
        """Resolves the name: again where an address can't be reached, and at intervals."""
        timeouts = self._config.timeouts
        while True:
            self._wanted.clear()
            try:
                await self._adopt(await resolve(self._target))
            except (OSError, UnicodeError) as error:
                self._trouble = f"no address of {self._target.host}: {error}"
                log.debug("%s", self._trouble)
                self._picker.note_trouble()
            if self._target.addresses:
                # The target names its addresses: they do not change.
                await asyncio.Event().wait()
            await asyncio.sleep(
                timeouts.least_between_lookups_s
                if self._subchannels
                else timeouts.longest_backoff_s
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    timeouts.most_between_lookups_s if self._subchannels else 0
                ):
                    await self._wanted.wait()

    async def _adopt(self, addresses: tuple[Address, ...]) -> None:
        """Connects to new addresses, and retires those that are gone."""
        for address in addresses:
            if address not in self._subchannels:
                self._subchannels[address] = Subchannel(
                    self._target, address, self._config, self._picker, self._wanted
                )
        gone = self._subchannels.keys() - set(addresses)
        await asyncio.gather(*(self._subchannels.pop(address).retire() for address in gone))


class Subchannel:
    """Keeps a connection to one address, and connects again after growing pauses."""

    __slots__ = (
        "_address",
        "_config",
        "_keepalive_s",
        "_picker",
        "_service",
        "_target",
        "_wanted",
        "_was_shut",
        "trouble",
    )

    def __init__(
        self,
        target: GrpcTarget,
        address: Address,
        config: ChannelConfig,
        picker: Picker,
        wanted: asyncio.Event,
    ) -> None:
        """``wanted`` is set when the connection has ended, or can't be made."""
        self._target = target
        self._address = address
        self._config = config
        self._picker = picker
        self._wanted = wanted
        self._keepalive_s = config.timeouts.keepalive_s
        self._was_shut = False
        self.trouble = ""
        """Why the address can't be reached; empty while it is, or may soon be."""
        self._service = Service(f"gRPC connection to {address}", self._keep, config.supervisor)
        self._service.start()

    async def retire(self) -> None:
        """Connects no more; calls under way may still be answered."""
        await self._service.stop()

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        timeouts = self._config.timeouts
        backoff_s = timeouts.first_backoff_s
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
                if clock() - opened > timeouts.longest_backoff_s:
                    backoff_s = timeouts.first_backoff_s
            self._wanted.set()
            jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
            await asyncio.sleep(began + backoff_s * jitter - clock())
            backoff_s = min(backoff_s * _BACKOFF_FACTOR, timeouts.longest_backoff_s)

    async def _dial(self) -> GrpcConnection:
        """Returns a connection that takes calls. Raises OSError."""
        loop = asyncio.get_running_loop()
        config = self._config
        address = self._address
        authority = (b":authority", self._target.authority.encode())
        connection = GrpcConnection(
            http2.Http2Connection((authority, *config.fields), config.max_body_bytes),
            timeouts=config.timeouts,
            keepalive_s=self._keepalive_s,
            pool=self._picker,
        )
        name = None if config.context is None else self._target.host
        try:
            async with asyncio.timeout(config.timeouts.connect_s) as limit:
                if address.path:
                    await loop.create_unix_connection(
                        lambda: connection, address.path, ssl=config.context, server_hostname=name
                    )
                else:
                    await loop.create_connection(
                        lambda: connection,
                        address.ip,
                        address.port,
                        ssl=config.context,
                        server_hostname=name,
                    )
                is_open = await connection.opened
        except BaseException as error:
            connection.abort()
            if isinstance(error, TimeoutError) and limit.expired():
                raise TimeoutError(f"none within {config.timeouts.connect_s:g} s") from None
            raise
        if not is_open:
            raise ConnectionError(connection.reason)
        return connection

    async def _use(self, connection: GrpcConnection) -> None:
        """Returns when the connection takes no more calls, or is no longer wanted."""
        self._picker.add(connection)
        try:
            await asyncio.wait((connection.ending,))
        finally:
            self._picker.remove(connection)
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
        self._picker.note_trouble()
