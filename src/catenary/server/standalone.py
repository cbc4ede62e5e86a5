"""Builds the deciders that need no application: clients with tokens, and the channels of public and signed streams.

Sources: docs/jwt_identification.md, docs/signed_streams.md (anycable).
"""

import functools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec

from catenary.auth.jwt import HMAC_ALGORITHMS, Rules, SecretKey, VerifyingKey
from catenary.auth.streams import CableReadyStreams, PubSubStreams, Reserved, TurboStreams
from catenary.config.effective import Keys
from catenary.config.effective import keys as config_keys
from catenary.config.options import JwtOptions, Options
from catenary.errors import ConfigError, MissingExtra
from catenary.ports import Channels
from catenary.routing.identity import TokenIdentity, header_of
from catenary.routing.streams import StreamChannel
from catenary.server import replaced_values
from catenary.server.build import ServerBuild
from catenary.server.reloads import Settings
from catenary.server.replaced_values import follow_secret
from catenary.supervision.service import Supervisor

_log: Final = logging.getLogger("catenary.server")

TURBO_CHANNEL: Final = "Turbo::StreamsChannel"
CABLE_READY_CHANNEL: Final = "CableReady::Stream"


def channels(build: ServerBuild, reserved: Reserved) -> dict[str, Channels]:
    """The channels that need no application, by name; all others are the application's. ``reserved`` streams are never
    public. The rules of streams may grant whispers and presence, or withdraw them."""
    options, rules = build.options.streams, build.stream_rules
    found: dict[str, Channels] = {}
    if options.pubsub_channel:
        found[options.pubsub_channel] = StreamChannel(
            PubSubStreams(
                replaced_values.signatures(build, lambda keys: keys.streams),
                is_public=options.public,
                whisper=options.whisper,
                presence=options.presence,
                reserved=reserved,
            ),
            rules,
        )
    if options.turbo:
        turbo = replaced_values.signatures(build, lambda keys: keys.turbo)
        if turbo is None:
            _warn_missing_key("turbo_streams")
        else:
            found[TURBO_CHANNEL] = StreamChannel(TurboStreams(turbo), rules)
    if options.cable_ready:
        cable_ready = replaced_values.signatures(build, lambda keys: keys.cable_ready)
        if cable_ready is None:
            _warn_missing_key("cable_ready")
        else:
            found[CABLE_READY_CHANNEL] = StreamChannel(CableReadyStreams(cable_ready), rules)
    return found


def _warn_missing_key(option: str) -> None:
    _log.warning(
        "%s has no key (streams_secret): the application authorizes these streams instead", option
    )


class FixedKeys:
    """The keys that options name: secrets, and a public key."""

    __slots__ = ("_public", "_secrets", "present")

    def __init__(self, secret: str | None) -> None:
        self._public: tuple[VerifyingKey, ...] = ()
        self.replace_secrets(*([] if secret is None else [secret]))

    def replace_secrets(self, *secrets: str) -> None:
        """Accepts tokens signed with these from now on."""
        self._secrets = tuple(map(SecretKey, secrets))
        self._join()

    def replace_public(self, key: VerifyingKey) -> None:
        """Accepts tokens signed with the private key of this one from now on."""
        self._public = (key,)
        self._join()

    def _join(self) -> None:
        self.present: tuple[VerifyingKey, ...] = (*self._secrets, *self._public)


class Tokens(msgspec.Struct, frozen=True):
    """How clients with tokens are identified, and what must be started and closed for that.

    ``header`` is the name of the request header that may carry the token, in lower case. ``trouble`` returns why the last
    request for a key set brought no keys. ``keys`` are those of the options, which a reload replaces.
    """

    identity: TokenIdentity
    header: str
    keys: "FixedKeys"
    start: tuple[Callable[[], Awaitable[None]], ...] = ()
    finish: tuple[Callable[[float], Awaitable[None]], ...] = ()
    trouble: Callable[[], str | None] | None = None


def maybe_tokens(
    options: JwtOptions, secret: str | None, supervisor: Supervisor | None = None
) -> Tokens | None:
    """None without a key to verify tokens with. Raises :class:`ConfigError` for an unusable key."""
    keys = FixedKeys(secret)
    if options.public_key or options.jwks_url:
        return _with_public_keys(options, keys, supervisor)
    if secret is None:
        return None
    identity = _identity(options, lambda: keys.present, None, frozenset(HMAC_ALGORITHMS))
    return Tokens(identity, header_of(options.param), keys)


def _with_public_keys(
    options: JwtOptions, keys: FixedKeys, supervisor: Supervisor | None
) -> Tokens:
    try:
        from catenary.adapters.jwks import RemoteKeys
        from catenary.auth.public_keys import ALGORITHMS
    except ImportError as error:
        raise MissingExtra("jwt_public_key or jwt_jwks_url", "jwt") from error
    if options.public_key:
        keys.replace_public(public_key(options.public_key))
    header = header_of(options.param)
    algorithms = frozenset[str]().union(*(key.algorithms for key in keys.present))
    if not options.jwks_url:
        return Tokens(_identity(options, lambda: keys.present, None, algorithms), header, keys)
    remote = RemoteKeys(options.jwks_url, interval_s=options.jwks_refresh_s, supervisor=supervisor)
    identity = _identity(
        options,
        lambda: (*keys.present, *remote.keys),
        remote.refresh,
        algorithms.union(*ALGORITHMS),
    )
    return Tokens(identity, header, keys, (remote.start,), (remote.close,), lambda: remote.trouble)


def public_key(given: str) -> VerifyingKey:
    """Reads the value of jwt_public_key. Raises :class:`ConfigError`."""
    from catenary.auth.public_keys import from_pem

    try:
        return from_pem(_pem(given))
    except ValueError as error:
        raise ConfigError(f"jwt_public_key: expected a public key in PEM: {error}") from error


def follow_keys(build: ServerBuild, tokens: Tokens) -> None:
    """Replaces the keys of tokens at a reload. The file of a public key is read again even if its name has not changed."""
    follow_secret(build, lambda options: config_keys(options).tokens, tokens.keys.replace_secrets)

    def prepare(new: Settings) -> Callable[[], None]:
        key = public_key(new.options.jwt.public_key)
        accepted = tokens.identity.algorithms
        if not key.algorithms & accepted:
            raise ConfigError(
                f"jwt_public_key: expected a key for {', '.join(sorted(accepted))}, as at the start,"
                f" got one for {', '.join(sorted(key.algorithms))}"
            )
        return functools.partial(tokens.keys.replace_public, key)

    if build.options.jwt.public_key:
        build.reloads.add(("jwt.public_key",), prepare, are_files=True)


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
