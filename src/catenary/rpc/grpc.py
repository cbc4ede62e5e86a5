"""The application behind gRPC.

The only module that imports grpcio; whoever imports it deals with its absence (extra ``grpc``).
Sources: rpc.proto; rpc/rpc.go and docs/rpc.md (anycable/anycable).
Knows: channels, status codes. Does not know: sessions, what a decision does.
"""

import asyncio
from typing import Any, Final

import grpc
import grpc.aio
import msgspec

from catenary.errors import AppFailed, AppUnavailable, ConfigError
from catenary.metrics.counters import Counters
from catenary.protocols import rpc_protobuf
from catenary.rpc.calls import AppAway, AppBusy, AppLate, CallLimits
from catenary.rpc.relay import TlsRelay
from catenary.rpc.remote import PROCEDURES, Procedure, RemoteApplication
from catenary.rpc.tls import Tls, client_context, root_certificates

_LIST_SCHEME: Final = "grpc-list://"
_DETAILS_CHARS: Final = 200
_TOO_LARGE: Final = "larger than max"
"""How grpcio's own RESOURCE_EXHAUSTED differs from a server's: its message is over a size limit."""

_CHANNEL_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.lb_policy_name", "round_robin"),
    # As the reference does; AnyCable's servers are set up for it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # grpcio waits up to two minutes between connections: a server that is back must be found.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # Attempts are counted and repeated in one place, and that is not here.
    ("grpc.enable_retries", 0),
    # A proxy for the web is none for the application next door.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

_Method = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


class MessageSizes(msgspec.Struct, frozen=True):
    """The largest messages in bytes; 0 for gRPC's own limits (4 MiB to receive, none to send)."""

    receive_bytes: int = 0
    send_bytes: int = 0


class GrpcApplication(RemoteApplication):
    """Calls Protobuf over HTTP/2, on one channel for as long as it lives."""

    __slots__ = ("_credentials", "_options", "_peers", "_relays", "_targets", "_turn")

    def __init__(
        self,
        host: str,
        *,
        counters: Counters,
        limits: CallLimits,
        tls: Tls | None = None,
        sizes: MessageSizes | None = None,
    ) -> None:
        """``host`` is a gRPC target or "grpc-list://host:port,host:port"; no TLS where None.

        Raises :class:`catenary.errors.ConfigError`.
        """
        super().__init__(rpc_protobuf, limits, counters)
        self._targets = targets(host)
        self._options = _options(sizes or MessageSizes())
        self._credentials: grpc.ChannelCredentials | None = None
        self._relays: dict[str, TlsRelay] = {}
        if tls is not None and tls.verify:
            self._credentials = grpc.ssl_channel_credentials(root_certificates(tls))
        elif tls is not None:
            self._relays = {
                target: TlsRelay(target, client_context(tls)) for target in self._targets
            }
        self._peers: tuple[_Peer, ...] = ()
        self._turn = 0

    async def start(self) -> None:
        """Opens the channels; they connect on their own, and whether they do shows in the calls."""
        self._peers = tuple([await self._open(target) for target in self._targets])

    async def _hang_up(self) -> None:
        for peer in self._peers:
            await peer.channel.close(None)
        for relay in self._relays.values():
            await relay.close()

    async def _send(
        self,
        procedure: Procedure,
        payload: bytes,
        metadata: dict[str, str],
        timeout_s: float | None,
    ) -> bytes:
        method = self._next().methods[procedure]
        try:
            return await method(payload, timeout=timeout_s, metadata=tuple(metadata.items()))
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None  # its text repeats everything, metadata included
        except grpc.aio.UsageError as error:
            raise AppUnavailable(f"the channel is closed: {error}") from None
        except asyncio.CancelledError:
            # A channel that is closed cancels its calls: that is not our caller's wish.
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise AppUnavailable("the channel was closed under the call") from None
            raise

    async def _open(self, target: str) -> "_Peer":
        relay = self._relays.get(target)
        if relay is not None:
            authority = ("grpc.default_authority", relay.authority)
            options = (*self._options, authority)
            return _Peer(grpc.aio.insecure_channel(await relay.start(), options))
        if self._credentials is not None:
            return _Peer(grpc.aio.secure_channel(target, self._credentials, self._options))
        return _Peer(grpc.aio.insecure_channel(target, self._options))

    def _next(self) -> "_Peer":
        """The next channel in turn that is connected, or else may soon be."""
        peers = self._peers
        if len(peers) == 1:
            return peers[0]
        if not peers:
            raise AppUnavailable("expected the application's channel to be open, got none: start()")
        self._turn = (self._turn + 1) % len(peers)
        in_turn = peers[self._turn :] + peers[: self._turn]
        return min(in_turn, key=_Peer.distance)


class _Peer:
    """A channel and its methods. Several only with grpc-list: a channel balances by itself."""

    __slots__ = ("channel", "methods")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.methods: dict[Procedure, _Method] = {
            name: channel.unary_unary(f"/{rpc_protobuf.SERVICE}/{name}", None, None)
            for name in PROCEDURES
        }
        channel.get_state(try_to_connect=True)

    def distance(self) -> int:
        """How far it is from being of use: 0 is connected."""
        match self.channel.get_state(try_to_connect=True):
            case grpc.ChannelConnectivity.READY:
                return 0
            case grpc.ChannelConnectivity.IDLE | grpc.ChannelConnectivity.CONNECTING:
                return 1
            case _:
                return 2


def targets(host: str) -> tuple[str, ...]:
    """The gRPC targets that a value of rpc_host names: one, or each of a grpc-list.

    grpcio knows lists of IP addresses only, so a list of names becomes a channel for each.
    Raises :class:`ConfigError` for an empty list.
    """
    if not host.startswith(_LIST_SCHEME):
        return (host,)
    names = host.removeprefix(_LIST_SCHEME).split(",")
    found = tuple(name.strip() for name in names if name.strip())
    if not found:
        raise ConfigError(f"rpc_host: expected {_LIST_SCHEME}host:port,…, got {host!r}")
    return found


def _options(sizes: MessageSizes) -> tuple[tuple[str, Any], ...]:
    limits = (
        ("grpc.max_receive_message_length", sizes.receive_bytes),
        ("grpc.max_send_message_length", sizes.send_bytes),
    )
    return _CHANNEL_OPTIONS + tuple(limit for limit in limits if limit[1])


def _failure(error: grpc.aio.AioRpcError) -> AppUnavailable | AppFailed:
    details = (error.details() or "")[:_DETAILS_CHARS]
    text = f"gRPC {error.code().name}: {details}"
    match error.code():
        # A server that is stopped cancels its calls; where we did, this is not reached.
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return AppAway(text)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _TOO_LARGE not in details:
            return AppBusy(text)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return AppLate(text)
        case _:
            return AppFailed(text)
