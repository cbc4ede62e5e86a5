"""Publishes over HTTP to a server that runs elsewhere: for RPC processes, jobs, shells.

Source: docs/broadcasting.md, "HTTP" (anycable/anycable).
"""

import asyncio
import http.client
from collections.abc import Awaitable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from catenary.auth.keys import BROADCAST_PHRASE, derived_key
from catenary.errors import BackendError, ConfigError

BACKLOG: Final = 1_000
"""Publications that may wait for those before them."""


class HttpPublisher:
    """Satisfies :class:`catenary.channels.publishing.Publisher`: in order, on one connection.

    In a loop it returns at once with something to await; elsewhere when the server has answered.
    """

    def __init__(
        self, url: str, *, key: str = "", secret: str = "", timeout_s: float = 5.0
    ) -> None:
        """``url`` is where the server takes broadcasts; it wants the ``key``, or the one that is
        derived from the application's ``secret``. Raises :class:`ConfigError`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"expected the URL of broadcasts, got {parts.scheme or 'none'}://…")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        known = key or (derived_key(secret, BROADCAST_PHRASE) if secret else "")
        self._headers = {"Content-Type": "application/json"}
        if known:
            self._headers["Authorization"] = f"Bearer {known}"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catenary-publisher")
        self._waiting = 0
        self._served = False

    def publish(self, raw: bytes) -> Awaitable[None] | None:
        """Raises :class:`BackendError`, at once where too many wait already."""
        if self._waiting >= BACKLOG:
            raise BackendError(f"expected at most {BACKLOG} publications under way, got more")
        self._waiting += 1
        posted = self._thread.submit(self._post, raw)
        posted.add_done_callback(self._done)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            posted.result()
            return None
        return asyncio.wrap_future(posted)

    def close(self) -> None:
        """Waits for what was published, and hangs up."""
        self._thread.shutdown()
        self._connection.close()

    def _done(self, posted: "Future[None]") -> None:
        self._waiting -= 1

    def _post(self, raw: bytes) -> None:
        try:
            status = self._exchange(raw)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._served = False
            raise BackendError(f"the server takes no broadcasts: {error!r}") from error
        if status >= 300:
            raise BackendError(f"the server does not take the broadcast: HTTP {status}")

    def _exchange(self, raw: bytes) -> int:
        try:
            return self._request(raw)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # A connection kept from before, which the server has closed since.
            if not self._served:
                raise
            self._connection.close()
            self._served = False
            return self._request(raw)

    def _request(self, raw: bytes) -> int:
        self._connection.request("POST", self._path, raw, self._headers)
        response = self._connection.getresponse()
        response.read()
        self._served = True
        return response.status
