"""The REST API of a server, for the tools that ask it.

Source: docs/api.md. Knows: HTTP, pages of lists, event streams. Does not know: the meaning of an answer.
"""

import argparse
import http.client
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from catenary.auth.keys import bearer
from catenary.config.urls import http_url
from catenary.errors import BackendError, ConfigError
from catenary.messages.lenient_json import reader
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import add_key_arguments, server_settings
from catenary.wire.http1 import shown_location

TIMEOUT_S: Final = 30.0
"""More than a server takes to ask all nodes."""

PAGE: Final = 1_000
"""The most entries of a page."""

_SHOWN_BYTES: Final = 200
_NO_PATH: Final = "no such path"
"""The error of the API for a path that it does not have."""

_T = TypeVar("_T")
_Page = TypeVar("_Page", bound="Page")


class NodeError(msgspec.Struct):
    """A node that did not answer, and why."""

    node: str
    error: str


class Page(msgspec.Struct):
    """The part of each list that all pages have; ``next`` is None at the end."""

    next: str | None = None
    errors: list[NodeError] = []


def add_api_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--url`` and the arguments of keys."""
    parser.add_argument("--url", help="the API, http://HOST:PORT/api")
    add_key_arguments(parser, "the key of the API")


def api_of(invocation: Invocation) -> "Api":
    """The API that the arguments of :func:`add_api_arguments` and the configuration name. Raises :class:`ConfigError`."""
    arguments, server = invocation.arguments, server_settings(invocation)
    return Api(arguments.url or server.api_url, arguments.key or server.api_key)


def segment(text: str) -> str:
    """A name as a segment of a path."""
    return quote(text, safe="")


class Api:
    """Requests to one API. All methods raise :class:`BackendError` for an answer other than success, or none."""

    def __init__(self, url: str, key: str) -> None:
        """Without a ``key``, none is sent. Raises :class:`ConfigError`."""
        try:
            self._api = http_url(url)
        except ValueError as error:
            raise ConfigError(
                f"--url: expected the URL of an API, such as http://…/api, {error}"
            ) from None
        shown = bearer(key) if key else self._api.authorization
        self._headers = {"Authorization": shown} if shown else {}

    def get(self, path: str, query: Mapping[str, object] | None = None) -> bytes:
        """Returns the body of a successful answer."""
        return self._exchange("GET", path, query)

    def read(self, kind: type[_T], path: str, query: Mapping[str, object] | None = None) -> _T:
        """Returns an answer as this type."""
        return decoded(kind, self.get(path, query))

    def pages(
        self, kind: type[_Page], path: str, query: Mapping[str, object], limit: int | None
    ) -> Iterator[_Page]:
        """The pages of a list, until it ends; each is asked for when it is needed. ``limit`` is a hint for their size."""
        asked = {**query, "limit": min(limit or PAGE, PAGE)}
        page = self.read(kind, path, asked)
        yield page
        while page.next:
            page = self.read(kind, path, {**asked, "after": page.next})
            yield page

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
    ) -> bytes:
        """Sends a request with a JSON body, and returns that of the answer."""
        return self._exchange(
            method, path, query, b"" if body is None else msgspec.json.encode(body)
        )

    def events(
        self, path: str, query: Mapping[str, object], until: float | None = None
    ) -> Iterator[bytes]:
        """The data of each event of an event stream, and empty data for each comment, which comes at least every 10 s. Ends
        when the server ends it, or at a moment of the monotonic clock. Raises BackendError if the connection breaks."""
        connection = self._connection()
        try:
            response = self._answer(connection, "GET", path, query, b"")
            while line := _line_until(connection, response, until):
                if line.startswith(b"data: "):
                    yield line[6:].rstrip(b"\n")
                elif line.startswith(b":"):
                    yield b""
        except (OSError, http.client.HTTPException) as error:
            raise self._unreached(error) from error
        finally:
            connection.close()

    def _exchange(
        self, method: str, path: str, query: Mapping[str, object] | None, body: bytes = b""
    ) -> bytes:
        connection = self._connection()
        try:
            return self._answer(connection, method, path, query, body).read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreached(error) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        api = self._api
        kind = http.client.HTTPSConnection if api.is_encrypted else http.client.HTTPConnection
        return kind(api.host, api.port, timeout=TIMEOUT_S)

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: bytes,
    ) -> http.client.HTTPResponse:
        target = self._api.path.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        headers = {**self._headers, **({"Content-Type": "application/json"} if body else {})}
        connection.request(method, target, body or None, headers)
        response = connection.getresponse()
        if 200 <= response.status < 300:
            return response
        said = response.read()
        location = response.getheader("Location")
        if location:
            said = f"redirected to {shown_location(location)} (--url)".encode()
        raise BackendError(_refusal(response.status, said))

    def _unreached(self, error: Exception) -> BackendError:
        api = self._api
        url = f"http{'s' * api.is_encrypted}://{api.authority}{api.path}"
        why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        return BackendError(
            f"no server answers at {url} ({why}): start it, or name another with --url"
        )


def _line_until(
    connection: http.client.HTTPConnection,
    response: http.client.HTTPResponse,
    until: float | None,
) -> bytes:
    """The next line; empty at the end of the stream and at that moment."""
    if until is None:
        return response.readline()
    left_s = until - time.monotonic()
    if left_s <= 0:
        return b""
    if connection.sock is not None:
        connection.sock.settimeout(min(left_s, TIMEOUT_S))
    try:
        return response.readline()
    except TimeoutError:
        if time.monotonic() < until:
            raise
        return b""


def decoded(kind: type[_T], body: bytes) -> _T:
    """Reads an answer. Raises :class:`BackendError`."""
    try:
        return reader(kind)(body)
    except msgspec.DecodeError as error:
        raise BackendError(f"the API's answer was not understood: {error}") from error


def filters(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The query of these arguments, without those that are not given."""
    found = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


class _Refused(msgspec.Struct):
    error: str = ""


def _refusal(status: int, body: bytes) -> str:
    meaning = {
        401: "the API requires another key (--secret, --key)",
        404: "no such API at this URL (--url)",
        501: "the server has no broker that stores this",
    }.get(status, "the API refuses")
    try:
        said = reader(_Refused)(body).error
        if status == 404 and said not in ("", _NO_PATH):
            meaning = "not found"
    except msgspec.DecodeError:
        said = " ".join(body.decode(errors="replace").split())
    said = said[:_SHOWN_BYTES]
    return f"{meaning}: HTTP {status} {said if said.isprintable() else ''}".rstrip()
