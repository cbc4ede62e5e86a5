"""One question to the REST API of a server.

Source: docs/api.md (anycable). Knows: HTTP. Does not know: what is asked.
"""

import http.client
from urllib.parse import urlsplit

from catenary.auth.keys import bearer
from catenary.errors import BackendError, ConfigError
from catenary.wire.http1 import shown_location

TIMEOUT_S = 10.0
_SHOWN_BYTES = 200


def get(url: str, path: str, *, key: str) -> bytes:
    """The body of a 200; ``path`` is behind the API's ``url``, ``key`` empty for none.

    Raises :class:`BackendError` for any other answer or none.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"--url: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"--url: expected the URL of an API, such as http://…/api, got {url!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=TIMEOUT_S)
    headers = {"Authorization": bearer(key)} if key else {}
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise BackendError(f"the API at {parts.netloc} does not answer: {error!r}") from error
    finally:
        connection.close()
    if response.status == 200:
        return body
    location = response.getheader("Location")
    if location:
        body = f"redirected to {shown_location(location)} (--url)".encode()
    raise BackendError(_refusal(response.status, body))


def _refusal(status: int, body: bytes) -> str:
    meaning = {
        401: "the API wants another key (--secret, --key)",
        404: "there is no such API here (--url)",
        501: "the server does not keep this",
    }.get(status, "the API refuses")
    said = " ".join(body[:_SHOWN_BYTES].decode(errors="replace").split())
    return f"{meaning}: HTTP {status} {said if said.isprintable() else ''}".rstrip()
