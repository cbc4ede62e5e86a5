"""Publishes over HTTP to a server in another process.

Source: docs/broadcasting.md, "HTTP" (anycable/anycable).
"""

import http.client
from typing import Final

from catenary.auth.keys import BROADCAST_PHRASE, bearer, derived_key
from catenary.channels.http_address import http_address, reason_of
from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.errors import BackendError, BackendRefused, TooLarge

_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 529})
"""Temporary failures: the same request may succeed later."""

_TOO_LARGE: Final = 413


class HttpPublisher(OrderedPublisher):
    """Posts to the server's broadcast endpoint, or to that of the API."""

    def __init__(
        self, url: str, *, key: str = "", secret: str = "", timeout_s: float = 5.0
    ) -> None:
        """``url`` is the broadcast endpoint, such as ``http://localhost:8090/_broadcast``; ``key`` is its bearer
        key, by default derived from the application's ``secret``. Raises :class:`catenary.errors.ConfigError`."""
        super().__init__()
        self._address = address = http_address(url, "broadcasts")
        self._connection = address.connection(timeout_s)
        self._path = address.target
        known = key or (derived_key(secret, BROADCAST_PHRASE) if secret else "")
        self._headers: dict[str, str | bytes] = {
            "Content-Type": "application/json",
            **address.headers(bearer(known) if known else ""),
        }
        self._served = False

    def _deliver(self, raw: bytes) -> None:
        try:
            status, reason = self._exchange(raw)
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            raise BackendError(
                f"no server accepts broadcasts at {self._address}: {_reason(error)}"
            ) from error
        if status >= 300:
            raise _failure(status, reason)

    def _hang_up(self) -> None:
        self._connection.close()
        self._served = False

    def _exchange(self, raw: bytes) -> tuple[int, str]:
        try:
            return self._request(raw)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # A connection of an earlier publication, which the server has closed since.
            if not self._served:
                raise
            self._hang_up()
            return self._request(raw)

    def _request(self, raw: bytes) -> tuple[int, str]:
        """The status of the response, and the reason that it gives."""
        try:
            self._connection.request("POST", self._path, raw, self._headers)
        except (ConnectionResetError, BrokenPipeError):
            # A server that refuses the request may respond before it has read all of it.
            if self._connection.sock is None:
                raise
            answer = self._answer()
            self._hang_up()
            return answer
        answer = self._answer()
        self._served = True
        return answer

    def _answer(self) -> tuple[int, str]:
        response = self._connection.getresponse()
        return response.status, reason_of(response)


def _reason(error: Exception) -> str:
    """The text of an error of the connection: ``Connection refused``."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _failure(status: int, reason: str) -> BackendError:
    """The error for a status: :class:`BackendRefused` if the same publication would be refused again."""
    kind: type[BackendError] = BackendRefused
    if status in _TEMPORARY:
        kind = BackendError
    elif status == _TOO_LARGE:
        kind = TooLarge
    why = f": {reason[:200]}" if reason else ""
    return kind(f"the server refused the broadcast: HTTP {status}{why}")
