"""The public keys of a token issuer, fetched from its JSON Web Key Set (RFC 7517).

The key set is fetched at the start, at regular intervals, and when a token names an unknown key, but at most every
:data:`MIN_INTERVAL_S`. If the issuer is unavailable, the last keys stay valid.
Knows: HTTP. Does not know: tokens.
"""

import asyncio
import http.client
import logging
import time
import urllib.request
from collections.abc import Callable
from typing import Final

from catenary.auth.public_keys import PublicKey, from_key_set
from catenary.config.urls import HttpUrl, http_url
from catenary.errors import ConfigError
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.jwks")

TIMEOUT_S: Final = 5.0
MIN_INTERVAL_S: Final = 10.0
"""Shortest time between two requests, whatever tokens ask for."""
_MAX_BYTES: Final = 2**20


class RemoteKeys:
    """A copy of the key set of an issuer; ``keys`` are the present ones."""

    __slots__ = (
        "_asked_at",
        "_backoff",
        "_clock",
        "_interval_s",
        "_service",
        "_under_way",
        "_url",
        "keys",
        "trouble",
    )

    def __init__(
        self,
        url: str,
        *,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        supervisor: Supervisor | None = None,
    ) -> None:
        """``interval_s`` is the time between two regular requests; ``clock`` returns seconds.

        Raises :class:`ConfigError` for an invalid URL.
        """
        self.keys: tuple[PublicKey, ...] = ()
        self.trouble: str | None = None
        """Why the last request brought no keys; None if it did."""
        try:
            self._url: Final = http_url(url)
        except ValueError as error:
            raise ConfigError(f"jwt_jwks_url: expected http(s)://…, {error}") from None
        self._interval_s = max(interval_s, MIN_INTERVAL_S)
        self._clock = clock
        self._asked_at: float | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._service = Service("refresh of token keys", self._refresh_regularly, supervisor)

    async def start(self) -> None:
        """Fetches the keys. A failure is logged and retried later."""
        await self._fetch_keys()
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Stops fetching."""
        await self._service.stop()
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait([self._under_way])

    async def refresh(self) -> None:
        """Fetches the keys again, unless the last request is recent. Concurrent callers share one request."""
        if self._under_way is None and self._is_too_early():
            return
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_task(self._fetch_keys())
            self._under_way.add_done_callback(self._fetched)
        # A client that leaves must not cancel the request of others.
        await asyncio.shield(self._under_way)

    def _is_too_early(self) -> bool:
        return self._asked_at is not None and self._clock() < self._asked_at + MIN_INTERVAL_S

    def _fetched(self, task: "asyncio.Task[None]") -> None:
        self._under_way = None

    async def _refresh_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.refresh()

    async def _fetch_keys(self) -> None:
        self._asked_at = self._clock()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                keys = from_key_set(await asyncio.to_thread(_fetch, self._url))
        except (OSError, http.client.HTTPException, ValueError) as error:
            # TimeoutError and URLError are OSErrors.
            self.trouble = repr(error)
            if self._backoff.failed().is_logged:
                _log.warning("Fetching token keys failed, retrying: %r", error)
            return
        except Exception as error:  # noqa: BLE001
            # A key set that our libraries fail on: the last keys stay valid.
            self.trouble = repr(error)
            if self._backoff.failed().is_logged:
                _log.exception("Reading the token keys failed")
            return
        self.keys = keys
        self.trouble = None if keys else "the key set has no signature key"
        if keys:
            self._backoff.works()
        elif self._backoff.failed().is_logged:
            _log.warning("The key set has no signature key: all its tokens are refused")


def _fetch(where: HttpUrl) -> bytes:
    """Runs in a thread. Raises OSError, HTTPException, or ValueError for a response that is too large."""
    headers = {"Accept": "application/json"}
    if where.authorization:
        headers["Authorization"] = where.authorization
    request = urllib.request.Request(where.url, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        raw: bytes = response.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"expected a key set of up to {_MAX_BYTES} bytes, got more")
    return raw
