"""The application behind gRPC.

Sources: rpc.proto; rpc/rpc.go and docs/rpc.md (anycable/anycable); PROTOCOL-HTTP2.md (grpc/grpc).
Knows: paths, metadata, sizes. Does not know: connections, sessions, what decisions mean.
"""

import asyncio
from typing import Any, Final

import msgspec

from catenary import __version__
from catenary.errors import AppFailed, AppUnavailable
from catenary.metrics.counters import Counters
from catenary.protocols import rpc_protobuf
from catenary.rpc import grpc_status
from catenary.rpc.calls import CallLimits, RpcCall
from catenary.rpc.grpc_balancer import Balancer
from catenary.rpc.grpc_connection import GrpcAttempt, GrpcTimeouts
from catenary.rpc.grpc_subchannels import ChannelConfig
from catenary.rpc.grpc_targets import targets
from catenary.rpc.remote import PROCEDURES, RemoteApplication
from catenary.rpc.tls import Tls, client_context
from catenary.supervision.service import Supervisor
from catenary.tracer import Tracer

_RECEIVE_BYTES: Final = 4 * 2**20
_PATHS: Final[dict[str, bytes]] = {
    name: f"/{rpc_protobuf.SERVICE}/{name}".encode() for name in PROCEDURES
}
_NEVER: Final = float("inf")


_HEALTH_PATH: Final = b"/grpc.health.v1.Health/Check"
_SERVING_STATUSES: Final = {b"\x08\x01": "SERVING", b"\x08\x02": "NOT_SERVING"}


class _HealthAnswer:
    """Satisfies :class:`catenary.rpc.grpc_connection.ResponseHandler`; ``raw`` is the answer."""

    def __init__(self) -> None:
        self.raw: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answered(self, raw: bytes) -> None:
        if not self.raw.done():
            self.raw.set_result(raw)

    def failed(self, error: Exception) -> None:
        if not self.raw.done():
            self.raw.set_exception(error)


class MessageSizes(msgspec.Struct, frozen=True):
    """The largest messages in bytes; 0 for gRPC's own limits (4 MiB to receive, none to send)."""

    receive_bytes: int = 0
    send_bytes: int = 0


class GrpcApplication(RemoteApplication):
    """Calls the application with Protobuf messages over persistent HTTP/2 connections."""

    __slots__ = ("_balancer", "_config", "_send_bytes", "_targets")

    def __init__(
        self,
        host: str,
        *,
        counters: Counters,
        limits: CallLimits,
        tls: Tls | None = None,
        sizes: MessageSizes | None = None,
        timeouts: GrpcTimeouts | None = None,
        supervisor: Supervisor | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """``host`` is a gRPC target or "grpc-list://host:port,host:port". Without ``tls``, connections are not encrypted.

        Raises :class:`catenary.errors.ConfigError`.
        """
        super().__init__(rpc_protobuf, limits, counters, tracer, system="grpc")
        sizes = sizes or MessageSizes()
        self._targets = targets(host)
        self._send_bytes = sizes.send_bytes
        context = None
        if tls is not None:
            context = client_context(tls)
            context.set_alpn_protocols(["h2"])
        fields = (
            (b":scheme", b"http" if tls is None else b"https"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", f"grpc-python-catenary/{__version__}".encode()),
        )
        receive_bytes = sizes.receive_bytes or _RECEIVE_BYTES
        self._config = ChannelConfig(
            context,
            fields,
            receive_bytes + grpc_status.PREFIX_BYTES,
            timeouts or GrpcTimeouts(),
            supervisor,
        )
        self._balancer: Balancer | None = None

    async def start(self) -> None:
        """Begins to connect. Does not wait: calls fail while no server can be reached."""
        self._balancer = Balancer(self._targets, self._config)

    @property
    def connections_num(self) -> int:
        """Number of open connections."""
        return 0 if self._balancer is None else len(self._balancer.connections)

    @property
    def trouble(self) -> str | None:
        """Why there is no connection; None while there is one, or may soon be."""
        return None if self._balancer is None else self._balancer.trouble

    async def health(self, timeout_s: float) -> str:
        """The state that the server's health service reports: SERVING, NOT_SERVING or UNKNOWN; empty if there is no such
        service. Raises :class:`catenary.errors.AppError`.

        Source: doc/health-checking.md (grpc/grpc).
        """
        if self._balancer is None:
            raise AppUnavailable("expected the application's channel to be open, got none: start()")
        answer = _HealthAnswer()
        fields = grpc_status.timeout_field(timeout_s)
        expires_at = self._balancer.time() + timeout_s
        self._balancer.submit(
            GrpcAttempt(answer, _HEALTH_PATH, fields, grpc_status.message(b""), expires_at)
        )
        try:
            return _SERVING_STATUSES.get(await answer.raw, "UNKNOWN")
        except AppFailed as error:
            if "gRPC UNIMPLEMENTED" in str(error):
                return ""
            raise

    async def _hang_up(self) -> None:
        if self._balancer is not None:
            await self._balancer.close()

    def _send(self, call: RpcCall[Any], timeout_s: float | None) -> GrpcAttempt:
        balancer = self._balancer
        if balancer is None:
            raise AppUnavailable("expected the application's channel to be open, got none: start()")
        if self._send_bytes and len(call.payload) > self._send_bytes:
            raise grpc_status.oversized("sent", self._send_bytes)
        fields = grpc_status.call_fields(call.sid, timeout_s)
        if call.span is not None:
            fields += grpc_status.encoded(call.span.headers)
        attempt = GrpcAttempt(
            call,
            _PATHS[call.procedure.name],
            fields,
            grpc_status.message(call.payload),
            _NEVER if timeout_s is None else balancer.time() + timeout_s,
        )
        balancer.submit(attempt)
        return attempt
