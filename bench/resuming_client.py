"""A client of the extended protocol: it comes back to its session, and asks for what it has missed.

Sources: extended Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io;
tokens, docs/jwt_identification.md (anycable/anycable). Knows: one session over several connections.
Does not know: when it is cut off.
"""

from __future__ import annotations  # array[float], which Python 3.11 can't evaluate

import asyncio
import base64
import hmac
import json
import re
from array import array
from typing import ClassVar, Final

import msgspec

from bench.client import PLAIN, Listener, Tally

_POSITION: Final = b'"offset"'
_FIELDS: Final = tuple(
    re.compile(rb'"%b":\s*"?([^",}]+)' % name) for name in (b"stream_id", b"epoch", b"offset")
)
_CONFIRMED: Final = b'"confirm_history"'
_TOKEN_EXPIRES: Final = 4_102_444_800
"""In the year 2100: a run never meets it."""


class ResumingClient(Listener):
    """Listens to a public stream and knows its place there. With a ``token`` it says who it is.

    It can be cut off once, after it has heard something; ``restored`` tells whether it then came
    back to its session.
    """

    __slots__ = ("_heard_last", "_is_back", "_query", "_sid", "restored")

    protocol: ClassVar[str] = PLAIN.replace("-json", "-ext-json")

    def __init__(self, tally: Tally, sent: array[float], stream: int, *, token: str = "") -> None:
        super().__init__(tally, sent, stream)
        self._query = f"?jid={token}" if token else ""
        self.path += self._query
        self.restored = False
        self._sid = ""
        self._heard_last = b""
        self._is_back = False

    def cut(self) -> None:
        """Loses its connection; the next one is for the same session.

        It is ``ready`` again once it has all that it missed.
        """
        self.leave()
        self.ready = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._is_open = False
        self._is_back = True
        self.path = f"/cable{self._query}{'&' if self._query else '?'}sid={self._sid}"

    def data_received(self, data: bytes) -> None:
        """Keeps what has its position in it, to read it only when that is needed."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        super().data_received(data)
        whole = data[: len(data) - len(self._rest)]
        if not self._is_back and _POSITION in whole:
            self._heard_last = whole

    def _heard(self, first: int, payload: bytes) -> None:
        if b'"welcome"' in payload:
            welcome = msgspec.json.decode(payload)
            self._sid = welcome.get("sid", "")
            if not self._is_back:
                self.send("subscribe")
            elif not welcome.get("restored"):
                self.fail("the session was not resumed")
            elif not self._heard_last:
                self.fail("no position was ever told")
            else:
                self.restored = True
                self.send("history", history={"streams": self._positions()})
        elif self._is_back and _CONFIRMED in payload:
            if not self.ready.done():
                self.ready.set_result(None)
        else:
            super()._heard(first, payload)

    def _positions(self) -> dict[str, dict[str, object]]:
        """The last position that it knows, as a history request names it."""
        stream, epoch, offset = (
            pattern.findall(self._heard_last)[-1].decode() for pattern in _FIELDS
        )
        return {stream: {"offset": int(offset), "epoch": epoch}}


def token(secret: str, user: int) -> str:
    """A token of AnyCable's for one user, signed with HMAC-SHA256 (RFC 7519)."""
    claims = {"ext": json.dumps({"user_id": user}), "exp": _TOKEN_EXPIRES}
    signed = ".".join(
        _encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    )
    return f"{signed}.{_encoded(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
