"""The public keys of an issuer of tokens, from its JSON Web Key Set on the web (RFC 7517).

Fetched at the start, then regularly, and when a token names a key that is not there: but not more
often than the issuer can be expected to bear. While it is away the keys of before count on.
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
"""How long after one request the next may follow, whatever tokens say."""
_MAX_BYTES: Final = 2**20


class RemoteKeys:
    """A key set that follows its original; ``keys`` are those of now."""

    __slots__ = (
        "_asked_at",
        "_backoff",
        "_clock",
        "_interval_s",
        "_service",
        "_under_way",
        "_url",
        "keys",
    )

    def __init__(
        self,
        url: str,
        *,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        supervisor: Supervisor | None = None,
    ) -> None:
        """``interval_s`` is the time between two regular requests; ``clock`` counts seconds.

        Raises :class:`ConfigError` for what is no URL.
        """
        self.keys: tuple[PublicKey, ...] = ()
        try:
            self._url: Final = http_url(url)
        except ValueError as error:
            raise ConfigError(f"jwt_jwks_url: expected http(s)://…, {error}") from None
        self._interval_s = max(interval_s, MIN_INTERVAL_S)
        self._clock = clock
        self._asked_at: float | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._service = Service("refresh of token keys", self._keep, supervisor)

    async def start(self) -> None:
        """Fetches the keys, once; a failure is logged, and tried again later."""
        await self._refresh()
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Fetches no more."""
        await self._service.stop()
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait([self._under_way])

    async def look_again(self) -> None:
        """Returns with newer keys, or at once where the last request is not long ago.

        Who comes while a request is under way waits for that one.
        """
        if self._under_way is None and self._is_too_early():
            return
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_task(self._refresh())
            self._under_way.add_done_callback(self._arrived)
        # A client that leaves must not break off what others wait for.
        await asyncio.shield(self._under_way)

    def _is_too_early(self) -> bool:
        return self._asked_at is not None and self._clock() < self._asked_at + MIN_INTERVAL_S

    def _arrived(self, task: "asyncio.Task[None]") -> None:
        self._under_way = None

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look_again()

    async def _refresh(self) -> None:
        self._asked_at = self._clock()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                keys = from_key_set(await asyncio.to_thread(_fetch, self._url))
        except (OSError, http.client.HTTPException, ValueError) as error:
            # TimeoutError and URLError are OSErrors.
            if self._backoff.failed().is_logged:
                _log.warning("The keys of tokens could not be fetched: %r", error)
            return
        except Exception:  # noqa: BLE001
            # A key set that our libraries stumble over: the keys of before count on.
            if self._backoff.failed().is_logged:
                _log.exception("The keys of tokens could not be read")
            return
        self.keys = keys
        if keys:
            self._backoff.works()
        elif self._backoff.failed().is_logged:
            _log.warning("The key set has no key for signatures: its tokens are refused")


def _fetch(where: HttpUrl) -> bytes:
    """In a thread of its own. Raises OSError, HTTPException, or ValueError for too much."""
    headers = {"Accept": "application/json"}
    if where.authorization:
        headers["Authorization"] = where.authorization
    request = urllib.request.Request(where.url, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        raw: bytes = response.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"expected a key set of up to {_MAX_BYTES} bytes, got more")
    return raw
