"""Requests to the REST API of a server, with the key that an application derives from its secret.

Knows: HTTP. Does not know: what operations do.
"""

import hashlib
import hmac
import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.parts.cable_client import CableClient
from tests.parts.server import CableServer
from tests.parts.tokens import SECRET, token

KEY = hmac.new(SECRET.encode(), b"api-cable", hashlib.sha256).hexdigest()
FLAGS = ("--norpc", "--enforce_jwt", f"--secret={SECRET}", "--public_streams")


@dataclass(frozen=True)
class RestAnswer:
    status: int
    headers: dict[str, str]
    content: Any


def rest(
    server: CableServer,
    method: str,
    path: str,
    body: object = None,
    /,
    *,
    key: str = KEY,
    **query: object,
) -> RestAnswer:
    """One request on a connection of its own. ``path`` is sent as it is; a body of bytes, too."""
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    target = "/api" + path + (f"?{urlencode(query)}" if query else "")
    try:
        connection.request(method, target, raw, headers)
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    found = {name.lower(): value for name, value in response.getheaders()}
    return RestAnswer(response.status, found, json.loads(text) if text else None)


def get(server: CableServer, path: str, /, **query: object) -> Any:
    """The content of a successful answer."""
    answer = rest(server, "GET", f"{path}?{urlencode(query)}")
    assert answer.status == 200, answer
    return answer.content


def signed_in(server: CableServer, user: str, **options: Any) -> tuple[CableClient, str]:
    """A client with an identifier, which was welcomed; and its sid."""
    text = token({"ext": json.dumps({"user": user}), "exp": int(time.time()) + 60})
    client = CableClient(f"{server.cable_url}?jid={text}", **options)
    return client, sid_of(server, user)


def identifiers(user: str) -> str:
    return json.dumps({"user": user})


def sid_of(server: CableServer, user: str) -> str:
    """The sid of the only client of a user. Waits until the server has it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = get(server, "/connections", identifiers=identifiers(user))["connections"]
        if found:
            assert len(found) == 1
            return str(found[0]["sid"])
    raise TimeoutError(user)


def all_pages(server: CableServer, path: str, entries: str, /, **query: object) -> list[Any]:
    """The entries of all pages."""
    found: list[Any] = []
    page = get(server, path, **query)
    while page["next"] is not None:
        found += page[entries]
        page = get(server, path, **{**query, "after": page["next"]})
    found += page[entries]
    return found
