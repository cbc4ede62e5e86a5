"""Serves a cable over gRPC, for anycable-go and Catenary. Also answers gRPC health checks.

Needs the extra ``rpc``.
Source: service anycable.RPC of etc/rpc.proto (anycable/anycable); grpc.health.v1.Health.
Knows: gRPC. Does not know: the calls.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from catenary.channels.cable import Cable
from catenary.channels.rpc_handler import Procedure, RpcHandler
from catenary.errors import ConfigError, MissingExtra, ProtocolError
from catenary.logs.rate_limited import RateLimitedLogger

try:
    import grpc
    import grpc.aio

    from catenary.protocols import rpc_protobuf
except ImportError as error:
    raise MissingExtra("rpc", "rpc") from error

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))

HEALTH: Final = "grpc.health.v1.Health"
_SERVING: Final = b"\x08\x01"
"""HealthCheckResponse with status SERVING."""

_OPTIONS: Final = (
    # AnyCable's servers ping idle connections; by default gRPC closes such connections.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
)

Serve = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


class ServerTls(msgspec.Struct, frozen=True):
    """A certificate chain and its key, in PEM."""

    certificate: bytes
    key: bytes


class GrpcRpcServer:
    """Serves a cable on one address, in the running loop."""

    def __init__(
        self,
        cable: Cable,
        address: str,
        *,
        tls: ServerTls | None = None,
        concurrency: int | None = None,
    ) -> None:
        """``concurrency`` limits the calls under way; further calls are refused with RESOURCE_EXHAUSTED, which
        callers retry."""
        self._handler = RpcHandler(cable.application, rpc_protobuf)
        self._address = address
        self._tls = tls
        self._concurrency = concurrency
        self._server: grpc.aio.Server | None = None
        self.port = 0
        """The port, after :meth:`start`."""

    async def start(self) -> None:
        """Listens. Raises :class:`ConfigError` if the address is not available."""
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=self._concurrency)
        methods = {
            name.capitalize(): grpc.unary_unary_rpc_method_handler(_serving(procedure))
            for name, procedure in self._handler.procedures.items()
        }
        health = {"Check": grpc.unary_unary_rpc_method_handler(_check)}
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(rpc_protobuf.SERVICE, methods),
                grpc.method_handlers_generic_handler(HEALTH, health),
            )
        )
        try:
            self.port = self._listen(server)
        except RuntimeError as error:
            raise ConfigError(
                f"rpc_host: can't listen on {self._address}: another program uses the port, or this"
                " machine has no such address; set rpc_host to another address"
            ) from error
        await server.start()
        self._server = server

    async def stop(self, timeout_s: float) -> None:
        """Refuses new calls, waits up to ``timeout_s`` for those under way, then cancels the rest."""
        if self._server is not None:
            await self._server.stop(timeout_s)
            self._server = None

    def _listen(self, server: grpc.aio.Server) -> int:
        if self._tls is None:
            return server.add_insecure_port(self._address)
        pair = (self._tls.key, self._tls.certificate)
        return server.add_secure_port(self._address, grpc.ssl_server_credentials([pair]))


def _serving(procedure: Procedure) -> Serve:
    async def serve(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        metadata = _metadata(context.invocation_metadata())
        try:
            return await procedure(request, metadata)
        except ProtocolError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (Exception, SystemExit):  # noqa: BLE001
            # A fault in this code, but the server must not wait for ever.
            _limited.exception("A call failed unexpectedly", sid=metadata.get("sid"))
            await context.abort(grpc.StatusCode.INTERNAL, "the application failed")

    return serve


def _metadata(pairs: Any) -> Mapping[str, str]:
    return {key: value for key, value in pairs or () if isinstance(value, str)}


async def _check(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
    return _SERVING
