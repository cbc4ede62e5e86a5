"""Reads the session that Starlette's SessionMiddleware stores in a signed cookie.

For cables in the server's own process and behind RPC. A cable that is mounted behind the middleware has
the session in ``self.request.scope["session"]``.
Source: starlette/middleware/sessions.py.
"""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catenary.channels.connection import Request
from catenary.errors import MissingExtra
from catenary.messages.lenient_json import read_object

try:
    from itsdangerous import BadSignature, TimestampSigner
except ImportError as error:
    raise MissingExtra("sessions of Starlette", "sessions") from error

MAX_AGE_S: Final = 14 * 24 * 60 * 60
"""Starlette's default."""


def starlette_session(
    request: Request, secret_key: str, *, cookie: str = "session", max_age_s: int | None = MAX_AGE_S
) -> Mapping[str, Any]:
    """Returns the session of a request; empty if there is none, or if its signature is wrong or too old.

    The arguments are those of the middleware.
    """
    value = request.cookies.get(cookie, "")
    try:
        data = TimestampSigner(secret_key).unsign(value, max_age=max_age_s)
        session = read_object(b64decode(data))
    except (BadSignature, ValueError, msgspec.MsgspecError):
        return {}
    return session
