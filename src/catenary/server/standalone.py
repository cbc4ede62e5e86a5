"""Builds the deciders that need no application: clients with tokens, and the channels of public and signed streams.

Sources: docs/jwt_identification.md, docs/signed_streams.md (anycable).
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec

from catenary.auth.jwt import HMAC_ALGORITHMS, Rules, SecretKey, VerifyingKey
from catenary.auth.signatures import Signatures
from catenary.auth.streams import CableReadyStreams, PubSubStreams, Reserved, TurboStreams
from catenary.broker.stream_rules import StreamRules
from catenary.config.effective import Keys
from catenary.config.options import JwtOptions, Options, StreamsOptions
from catenary.errors import ConfigError, MissingExtra
from catenary.ports import Channels
from catenary.routing.identity import TokenIdentity, header_of
from catenary.routing.streams import StreamChannel
from catenary.supervision.service import Supervisor

_log: Final = logging.getLogger("catenary.server")

TURBO_CHANNEL: Final = "Turbo::StreamsChannel"
CABLE_READY_CHANNEL: Final = "CableReady::Stream"


def channels(
    options: StreamsOptions, keys: Keys, reserved: Reserved, rules: StreamRules | None = None
) -> dict[str, Channels]:
    """The channels that need no application, by name; all others are the application's. ``reserved`` streams are never
    public. ``rules`` may grant whispers and presence, or withdraw them."""
    found: dict[str, Channels] = {}
    if options.pubsub_channel:
        found[options.pubsub_channel] = StreamChannel(
            PubSubStreams(
                None if keys.streams is None else Signatures(keys.streams),
                is_public=options.public,
                whisper=options.whisper,
                presence=options.presence,
                reserved=reserved,
            ),
            rules,
        )
    if options.turbo and keys.turbo is not None:
        found[TURBO_CHANNEL] = StreamChannel(TurboStreams(Signatures(keys.turbo)), rules)
    elif options.turbo:
        _warn_missing_key("turbo_streams")
    if options.cable_ready and keys.cable_ready is not None:
        found[CABLE_READY_CHANNEL] = StreamChannel(
            CableReadyStreams(Signatures(keys.cable_ready)), rules
        )
    elif options.cable_ready:
        _warn_missing_key("cable_ready")
    return found


def _warn_missing_key(option: str) -> None:
    _log.warning(
        "%s has no key (streams_secret): the application authorizes these streams instead", option
    )


class Tokens(msgspec.Struct, frozen=True):
    """How clients with tokens are identified, and what must be started and closed for that.

    ``header`` is the name of the request header that may carry the token, in lower case. ``trouble`` returns why the last
    request for a key set brought no keys.
    """

    identity: TokenIdentity
    header: str
    start: tuple[Callable[[], Awaitable[None]], ...] = ()
    finish: tuple[Callable[[float], Awaitable[None]], ...] = ()
    trouble: Callable[[], str | None] | None = None


def maybe_tokens(
    options: JwtOptions, secret: str | None, supervisor: Supervisor | None = None
) -> Tokens | None:
    """None without a key to verify tokens with. Raises :class:`ConfigError` for an unusable key."""
    keys: list[VerifyingKey] = [] if secret is None else [SecretKey(secret)]
    if options.public_key or options.jwks_url:
        return _with_public_keys(options, keys, supervisor)
    if not keys:
        return None
    identity = _identity(options, lambda: keys, None, frozenset(HMAC_ALGORITHMS))
    return Tokens(identity, header_of(options.param))


def _with_public_keys(
    options: JwtOptions, keys: list[VerifyingKey], supervisor: Supervisor | None
) -> Tokens:
    try:
        from catenary.adapters.jwks import RemoteKeys
        from catenary.auth.public_keys import ALGORITHMS, from_pem
    except ImportError as error:
        raise MissingExtra("jwt_public_key or jwt_jwks_url", "jwt") from error
    if options.public_key:
        try:
            keys.append(from_pem(_pem(options.public_key)))
        except ValueError as error:
            raise ConfigError(f"jwt_public_key: expected a public key in PEM: {error}") from error
    header = header_of(options.param)
    algorithms = frozenset[str]().union(*(key.algorithms for key in keys))
    if not options.jwks_url:
        return Tokens(_identity(options, lambda: keys, None, algorithms), header)
    remote = RemoteKeys(options.jwks_url, interval_s=options.jwks_refresh_s, supervisor=supervisor)
    identity = _identity(
        options,
        lambda: (*keys, *remote.keys),
        remote.refresh,
        algorithms.union(*ALGORITHMS),
    )
    return Tokens(identity, header, (remote.start,), (remote.close,), lambda: remote.trouble)


def _identity(
    options: JwtOptions,
    keys: Callable[[], Sequence[VerifyingKey]],
    refresh_keys: Callable[[], Awaitable[None]] | None,
    algorithms: frozenset[str],
) -> TokenIdentity:
    accepted = algorithms & set(options.algorithms) if options.algorithms else algorithms
    if not accepted:
        raise ConfigError(
            f"jwt_algorithms: expected one that the keys support ({', '.join(sorted(algorithms))}),"
            f" got {', '.join(options.algorithms)}"
        )
    return TokenIdentity(
        options.param,
        required=options.enforce,
        keys=keys,
        refresh_keys=refresh_keys,
        rules=Rules(accepted, options.issuer, options.audience),
        now=time.time,
    )


def _pem(given: str) -> str:
    """Returns PEM text as it is, or the content of the file of that name. Raises :class:`ConfigError`."""
    if given.startswith("-----BEGIN "):
        return given
    try:
        return Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"jwt_public_key: expected PEM or a readable file: {error}") from error


def announcements(
    options: Options, keys: Keys, tokens: Tokens | None, channels: Collection[str]
) -> list[str]:
    """Lines for the log at the start."""
    lines = []
    if tokens is not None:
        need = "required" if options.jwt.enforce else "optional"
        lines.append(f"Tokens (JWT) in ?{options.jwt.param}= or {tokens.header}: {need}")
    if options.access.noauth and not options.jwt.enforce:
        lines.append("Connections need no authentication (noauth)")
    pubsub = options.streams.pubsub_channel
    is_open = options.streams.public or keys.streams is not None
    decided = [name for name in channels if name != pubsub or is_open]
    if decided:
        lines.append(f"Streams without the application: {', '.join(decided)}")
    return lines
