"""Connections that are accepted without the application: all clients, or those with a token.

Source: ``--noauth`` and ``--public`` of docs/configuration.md, docs/jwt_identification.md (anycable).
Knows: environments, tokens. Does not know: where keys come from. Logs no token, and no claim.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import parse_qs

import msgspec

from catenary.auth.jwt import Rules, TokenError, Verified, VerifyingKey, check
from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.reasons import Reason
from catenary.messages.replies import Disconnected, Welcome

_write: Final = msgspec.json.Encoder().encode


def everybody(environment: Environment) -> Decision:
    """Accepts every client, identified by its session id."""
    return _welcome(environment, _write({"sid": environment.sid}).decode())


class TokenIdentity:
    """Accepts clients with a JSON Web Token, whose claim ``ext`` has the identifiers.

    The token is the value of the header ``x-`` + ``param``, else of the query parameter ``param``. For clients without
    a token, the next identification or the application decides, unless a token is ``required``.
    """

    __slots__ = ("_header", "_keys", "_now", "_param", "_refresh_keys", "_required", "_rules")

    def __init__(
        self,
        param: str,
        *,
        required: bool,
        keys: Callable[[], Sequence[VerifyingKey]],
        refresh_keys: Callable[[], Awaitable[None]] | None,
        rules: Rules,
        now: Callable[[], float],
    ) -> None:
        """``keys`` returns the current keys; ``refresh_keys`` is awaited before a token is refused because its key is
        unknown. ``now`` returns seconds since 1970."""
        self._param = param
        self._header = header_of(param)
        self._required = required
        self._keys = keys
        self._refresh_keys = refresh_keys
        self._rules = rules
        self._now = now

    def __call__(self, environment: Environment) -> Decision | Awaitable[Decision] | None:
        """Raises :class:`AppFailed` for a valid token without identifiers."""
        token = self._token_of(environment)
        if not token:
            return _refusal(Reason.UNAUTHORIZED, "no token") if self._required else None
        found = self._check(token)
        if found is TokenError.UNKNOWN_KEY and self._refresh_keys is not None:
            return self._check_with_new_keys(environment, token, self._refresh_keys)
        return _decision(environment, found)

    async def _check_with_new_keys(
        self, environment: Environment, token: str, refresh_keys: Callable[[], Awaitable[None]]
    ) -> Decision:
        await refresh_keys()
        return _decision(environment, self._check(token))

    @property
    def algorithms(self) -> frozenset[str]:
        """The accepted algorithms."""
        return self._rules.algorithms

    def shows_token(self, environment: Environment) -> bool:
        """Whether the request of a client has a token, valid or not."""
        return self._token_of(environment) != ""

    def renewed(self, environment: Environment, identifiers: str) -> Verified | None:
        """The claims of the token of a client that comes back, if it is valid and has the identifiers of its session. A key that
        is unknown is not looked for."""
        token = self._token_of(environment)
        found = self._check(token) if token else None
        if not isinstance(found, Verified) or found.identifiers != identifiers:
            return None
        return found

    def _check(self, token: str) -> Verified | TokenError:
        return check(token, self._keys(), self._rules, self._now())

    def _token_of(self, environment: Environment) -> str:
        token = environment.headers.get(self._header, "")
        if token:
            return token
        query = environment.url.partition("?")[2]
        if not query:
            return ""
        return parse_qs(query, keep_blank_values=True).get(self._param, [""])[0]


def header_of(param: str) -> str:
    """The name of the header for a token, in lower case."""
    return f"x-{param}".lower()


def _decision(environment: Environment, found: Verified | TokenError) -> Decision:
    if isinstance(found, TokenError):
        expired = found is TokenError.EXPIRED
        reason = Reason.TOKEN_EXPIRED if expired else Reason.UNAUTHORIZED
        return _refusal(reason, f"a token {found.value}")
    if found.identifiers is None:
        raise AppFailed("expected the identifiers as a string in the claim ext of the token")
    return _welcome(environment, found.identifiers, found.expires_at)


def _welcome(
    environment: Environment, identifiers: str, expires_at: float | None = None
) -> Decision:
    return Decision(
        identifiers=identifiers,
        replies=(Welcome(environment.sid),),
        disconnect_wanted=False,
        expires_at=expires_at,
    )


def _refusal(reason: Reason, why: str) -> Decision:
    return Decision(
        verdict=Verdict.FAILURE, replies=(Disconnected(reason, reason.reconnect),), error=why
    )
