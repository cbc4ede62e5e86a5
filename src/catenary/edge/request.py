"""Reads a client's opening request: its environment for the application, its heartbeat, the session it resumes.

Source: ``headers`` and ``proxy-cookies`` of docs/configuration.md and docs/rpc.md (anycable).
Knows: HTTP. Does not know: WebSockets, sessions.
"""

import base64
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote_plus

import msgspec

from catenary.edge.addresses import client_of
from catenary.messages.environment import Environment, Requester
from catenary.messages.heartbeat import PRECISIONS, Heartbeat
from catenary.messages.names import Sid
from catenary.wire.handshake import offered_subprotocols
from catenary.wire.http1 import RequestHead

RESTORE_HEADER: Final = "x-anycable-restore-sid"

_INTERVAL = re.compile(r"-?[0-9]{1,9}\Z")
# Clients of the API remove . and .. from its paths, so they could not name such a session.
_SID = re.compile(r"(?!\.{1,2}\Z)[!-~]{1,255}\Z")
_SID_CHARS: Final = 22
"""Six random bits each."""
_SIDS_AT_ONCE: Final = 256
_random: Final[list[Sid]] = []
# A forked process must not use the same ones.
os.register_at_fork(after_in_child=_random.clear)
_NAMED: Final = (b"origin", b"x-request-id")
MAX_PING_INTERVAL_S: Final = 86_400
TOKEN_SUBPROTOCOL: Final = "anycable-token."  # noqa: S105  (a prefix)


class Proxied(msgspec.Struct, frozen=True):
    """Which headers and cookies of a request are passed to the application; no ``cookies`` means all of them.

    ``token_header``, unless empty, is one more header, in lower case. The subprotocol ``anycable-token.…`` replaces it,
    because browsers can't send headers.
    """

    headers: tuple[str, ...]
    cookies: tuple[str, ...]
    token_header: str = ""


class Peer(NamedTuple):
    """The other end of a connection: ``http`` or ``https``, and its IP address, empty if it is unknown.

    ``asked_at`` is when the head of its request was complete (``time.perf_counter``), 0 if that is unknown.
    """

    scheme: str
    address: str
    asked_at: float = 0.0


def requester_of(request: RequestHead, peer: Peer) -> Requester:
    """The sender of a request, for one that is refused."""
    headers = request.headers
    return Requester(
        peer.address,
        request.method,
        request.path,
        headers.get("origin", ""),
        _request_id(headers.get("x-request-id", "")),
    )


def requester_of_scope(scope: Mapping[str, Any]) -> Requester:
    """The sender of a request that another ASGI server received, or uvicorn."""
    named = {name: value for name, value in scope["headers"] if name in _NAMED}
    return Requester(
        client_of(scope),
        scope.get("method", "GET"),
        scope["path"],
        named.get(b"origin", b"").decode("latin-1"),
        _request_id(named.get(b"x-request-id", b"").decode("latin-1")),
    )


def environment_of(
    request: RequestHead,
    peer: Peer,
    proxied: Proxied,
    new_sid: Callable[[], Sid] | None = None,
) -> Environment:
    """The environment of a client, for the application.

    ``new_sid`` makes the session's id if it must have a form of its own. Otherwise ``X-Request-ID`` becomes the id if it
    is printable ASCII of up to 255 bytes.
    """
    scheme = request.scheme or peer.scheme
    return Environment(
        sid=_sid_of(request) if new_sid is None else new_sid(),
        url=f"{scheme}://{request.headers.get('host', '')}{request.target}",
        headers=_forwarded_headers(request, peer.address, proxied),
    )


def _sid_of(request: RequestHead) -> Sid:
    named = request.headers.get("x-request-id")
    return Sid(named) if named is not None and _SID.match(named) else _new_sid()


def _request_id(named: str) -> str:
    """A valid X-Request-ID, else nothing."""
    return named if named and _SID.match(named) else ""


def _new_sid() -> Sid:
    """132 random bits as text, which does not begin like an option of a command: ``catenary who -abc``. Many are made at once,
    because the system call takes longer than the rest."""
    if not _random:
        entropy = os.urandom(_SIDS_AT_ONCE * _SID_CHARS * 6 // 8)
        text = base64.urlsafe_b64encode(entropy).decode()
        sids = [text[at : at + _SID_CHARS] for at in range(0, len(text), _SID_CHARS)]
        named = [f"0{each[1:]}" if each.startswith("-") else each for each in sids]
        _random.extend(cast("list[Sid]", named))
    return _random.pop()


def _forwarded_headers(request: RequestHead, remote_addr: str, proxied: Proxied) -> dict[str, str]:
    forwarded = {}
    for name in proxied.headers:
        lowered = name.lower()
        value = request.headers.get(lowered)
        if value and lowered == "cookie":
            value = _forwarded_cookies(value, proxied.cookies)
        if value:
            forwarded[name] = value
    if proxied.token_header:
        token = request.headers.get(proxied.token_header, "") or _offered_token(request)
        if token:
            forwarded[proxied.token_header] = token
    forwarded["REMOTE_ADDR"] = remote_addr
    return forwarded


def _offered_token(request: RequestHead) -> str:
    """The token among the subprotocols; docs/jwt_identification.md (anycable)."""
    for offered in offered_subprotocols(request):
        if offered.startswith(TOKEN_SUBPROTOCOL):
            return offered.removeprefix(TOKEN_SUBPROTOCOL)
    return ""


def _forwarded_cookies(header: str, names: Sequence[str]) -> str:
    if not names:
        return header
    pairs = (pair.strip() for pair in header.split(";"))
    return ";".join(pair for pair in pairs if pair.partition("=")[0] in names)


def heartbeat_of(request: RequestHead, default: Heartbeat) -> Heartbeat:
    """The heartbeat that the client asks for: ``?pi=`` (seconds, 0 or less for none), ``?ptp=`` (s, ms, ns).

    Invalid and missing values leave the ``default``.
    """
    if "pi=" not in request.target and "ptp=" not in request.target:
        return default
    query = request.query
    interval_s, precision = default.interval_s, default.precision
    asked = _parameter(query, "pi")
    if _INTERVAL.match(asked) is not None:
        interval_s = min(int(asked), MAX_PING_INTERVAL_S)
    unit = _parameter(query, "ptp")
    if unit in PRECISIONS:
        precision = unit
    return msgspec.structs.replace(default, interval_s=interval_s, precision=precision)


def resumed_sid(request: RequestHead) -> Sid | None:
    """The id of the session that the client wants to resume: a header, else ``?sid=``.

    Source: docs/misc/action_cable_protocol.md of docs.anycable.io, "Handshake metadata".
    """
    sid = request.headers.get(RESTORE_HEADER, "")
    if not sid and "sid=" in request.target:
        sid = _parameter(request.query, "sid")
    return cast("Sid", sid) if sid else None


def _parameter(query: str, name: str) -> str:
    """The last value of a parameter that is not empty, or "". Takes a tenth of the time of urllib, which decodes the
    whole query."""
    for pair in reversed(query.split("&")):
        key, _, value = pair.partition("=")
        if key == name and value:
            return unquote_plus(value) if "%" in value or "+" in value else value
    return ""
