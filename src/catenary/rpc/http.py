"""The application behind HTTP: each call is a POST of JSON.

Sources: docs/rpc.md, etc/rpc-openapi.yml and, for the meaning of statuses, rpc/http.go (anycable/anycable).
Knows: paths, headers, statuses. Does not know: sessions, what decisions mean.
"""

import asyncio
import ssl
from typing import Any, Final

from catenary.errors import AppFailed, AppNotReached
from catenary.metrics.counters import Counters
from catenary.protocols import rpc, rpc_json
from catenary.rpc.calls import AppAway, AppBusy, AppLate, CallLimits, RpcCall
from catenary.rpc.http_client import ConnectionBroken, HttpClient, HttpResponse, ResponseUnusable
from catenary.rpc.remote import RemoteApplication
from catenary.rpc.tls import Tls
from catenary.tracer import Tracer
from catenary.wire.http1 import shown_location

_META_PREFIX: Final = "x-anycable-meta-"
_EXCERPT_BYTES: Final = 200
_FOR_NOW: Final = frozenset({429, 502, 503, 504})
"""Statuses of an application, or of a proxy, that is away or busy."""
_BUSY: Final = frozenset({429, 503})
"""Statuses of an application that has no free worker."""


class AppAwayForNow(AppFailed, AppNotReached):
    """An answer says that the application is away. A client's call fails, as with the reference; a Disconnect call is
    made again later."""


class HttpApplication(RemoteApplication):
    """Calls the application with JSON over HTTP/1.1, on one connection for each call under way."""

    __slots__ = ("_client", "_repeats_refused")

    def __init__(
        self,
        url: str,
        *,
        counters: Counters,
        limits: CallLimits,
        key: str = "",
        tls: Tls | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """``key`` is sent as a bearer token if it is set; ``tls`` applies to https only.

        Raises :class:`catenary.errors.ConfigError`.
        """
        super().__init__(rpc_json, limits, counters, tracer, system="http")
        self._client = HttpClient(url, tls or Tls(), _headers(key))
        # Refused calls are how an adaptive concurrency finds its limit: no client may notice them.
        self._repeats_refused = limits.adaptive is not None

    def replace_key(self, key: str) -> None:
        """Sends another key with each request from now on."""
        self._client.replace_headers(_headers(key))

    async def start(self) -> None:
        """Does nothing: connections are made when they are needed."""

    @property
    def trouble(self) -> str | None:
        """Why the last attempt did not reach it; None if it did, or there was none."""
        return self._caller.trouble

    async def _hang_up(self) -> None:
        await self._client.close()

    def _send(self, call: RpcCall[Any], timeout_s: float | None) -> "asyncio.Task[None]":
        return asyncio.get_running_loop().create_task(self._attempt(call, timeout_s))

    async def _attempt(self, call: RpcCall[Any], timeout_s: float | None) -> None:
        try:
            raw = await self._exchange(call, timeout_s)
        except Exception as error:  # noqa: BLE001
            # The call passes it to its caller; nothing awaits this task.
            call.failed(error)
        else:
            call.answered(raw)

    async def _exchange(self, call: RpcCall[Any], timeout_s: float | None) -> bytes:
        metadata = rpc.metadata(call.sid)
        headers = {f"{_META_PREFIX}{name}": value for name, value in metadata.items()}
        if call.span is not None:
            headers.update(call.span.headers)
        connected = False
        try:
            async with asyncio.timeout(timeout_s) as limit:
                await self._client.connect()
                connected = True
                response = await self._client.post(
                    call.procedure.name.lower(), call.payload, headers
                )
        except ssl.SSLCertVerificationError as error:
            raise AppFailed(f"no trust in the application's certificate: {error}") from None
        except ResponseUnusable as error:
            raise AppFailed(str(error)) from None
        except ConnectionBroken as error:
            raise AppAway(str(error)) from None
        except OSError as error:
            if limit.expired() and connected:
                raise AppLate(f"no answer within {timeout_s:.1f} s") from None
            reason = f"none within {timeout_s:.1f} s" if limit.expired() else str(error)
            raise AppAway(f"no connection: {reason}") from None
        if self._repeats_refused and response.status in _BUSY:
            raise AppBusy(f"HTTP {response.status}: the application is busy")
        return _body(response)


def _body(response: HttpResponse) -> bytes:
    match response.status:
        case 200:
            return response.body
        case 401:
            raise AppFailed("HTTP 401: the application does not accept our key (http_rpc_secret)")
        case status if 300 <= status < 400 and response.location:
            # Following it would cost each call a round trip, and send the key to another server.
            target = shown_location(response.location)
            raise AppFailed(f"HTTP {status}: redirected to {target} (rpc_host should name that)")
        case status:
            excerpt = response.body[:_EXCERPT_BYTES].decode(errors="replace")
            kind = AppAwayForNow if status in _FOR_NOW else AppFailed
            raise kind(f"HTTP {status}: {excerpt}")


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
