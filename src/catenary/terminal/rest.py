"""One request to the REST API of a server.

Source: docs/api.md (anycable). Knows: HTTP. Does not know: the meaning of a response.
"""

import http.client

from catenary.auth.keys import bearer
from catenary.config.urls import http_url
from catenary.errors import BackendError, ConfigError
from catenary.wire.http1 import shown_location

TIMEOUT_S = 10.0
_SHOWN_BYTES = 200


def get(url: str, path: str, *, key: str) -> bytes:
    """Returns the body of a 200 response. ``path`` is relative to the API's ``url``; an empty ``key`` sends none.

    Raises :class:`BackendError` for any other response, or none.
    """
    try:
        api = http_url(url)
    except ValueError as error:
        raise ConfigError(
            f"--url: expected the URL of an API, such as http://…/api, {error}"
        ) from None
    kind = http.client.HTTPSConnection if api.is_encrypted else http.client.HTTPConnection
    connection = kind(api.host, api.port, timeout=TIMEOUT_S)
    shown = bearer(key) if key else api.authorization
    headers = {"Authorization": shown} if shown else {}
    try:
        connection.request("GET", api.path.rstrip("/") + path, headers=headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise unreached(
            f"http{'s' * api.is_encrypted}://{api.authority}{api.path}", error
        ) from error
    finally:
        connection.close()
    if response.status == 200:
        return body
    location = response.getheader("Location")
    if location:
        body = f"redirected to {shown_location(location)} (--url)".encode()
    raise BackendError(_refusal(response.status, body))


def unreached(url: str, error: Exception) -> BackendError:
    """The error for a URL at which nothing answers."""
    why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return BackendError(f"no server answers at {url} ({why}): start it, or name another with --url")


def _refusal(status: int, body: bytes) -> str:
    meaning = {
        401: "the API requires another key (--secret, --key)",
        404: "no such API at this URL (--url)",
        501: "the server has no broker that stores this",
    }.get(status, "the API refuses")
    said = " ".join(body[:_SHOWN_BYTES].decode(errors="replace").split())
    return f"{meaning}: HTTP {status} {said if said.isprintable() else ''}".rstrip()
