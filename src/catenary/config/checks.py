"""What must hold before the server starts, beyond the type of each value.

Knows: which options go together, and which need a feature that this version does not have.
Each finding is one line that names the option as it was given.
"""

import re
from collections.abc import Mapping
from typing import Final

from catenary.config.effective import keys
from catenary.config.options import TABLE, Entry, Options, Shorthand, Value
from catenary.errors import ConfigError

_PARAM: Final = re.compile(r"[A-Za-z0-9_-]+")
UNAVAILABLE: Final = "not available in this version"


def refuse_unbuilt(options: Options, sources: Mapping[str, str]) -> None:
    """Raises :class:`catenary.errors.ConfigError` for what needs a feature that is not built.

    ``sources`` tell by place where a value comes from (``--broker``, ``ANYCABLE_BROKER``); an
    option that nobody gave has its default and is fine.
    """
    for entry in TABLE:
        source = sources.get(entry.place)
        if source is None:
            continue
        value = entry.value_in(options)
        if not entry.option.built and not _is_harmless(entry, value, options):
            raise ConfigError(f"{source}: this option is {UNAVAILABLE}; leave it at its default")
        for item in value if isinstance(value, tuple) else (value,):
            if item in entry.option.later:
                raise ConfigError(f"{source}: the value {item!r} is {UNAVAILABLE}{_others(entry)}")


def refuse_unbuilt_shorthand(row: Shorthand, value: Value, source: str) -> None:
    """Raises :class:`catenary.errors.ConfigError` where such a flag asks for what is not built."""
    if not row.built and value not in (False, "", 0):
        raise ConfigError(f"{source}: this option is {UNAVAILABLE}; leave it out")


def check_together(options: Options) -> None:
    """Raises :class:`catenary.errors.ConfigError` for options that don't go together."""
    server, redis, rpc = options.server, options.redis, options.rpc
    _check_pair("ssl_cert", server.ssl_cert, "ssl_key", server.ssl_key)
    _check_pair(
        "redis_tls_client_cert_path",
        redis.tls_client_cert_path,
        "redis_tls_client_key_path",
        redis.tls_client_key_path,
    )
    if rpc.implementation == "http" and not rpc.host.startswith(("http://", "https://")):
        raise ConfigError(
            "rpc_host: expected an http:// or https:// URL for rpc_impl=http, got something else"
        )
    _check_tokens(options)
    for name, path in (
        ("health-path", server.health_path),
        ("http_broadcast_path", options.http_broadcast.path),
        *(("path", path) for path in options.websocket.paths),
    ):
        if not path.startswith("/"):
            raise ConfigError(f"{name}: expected a path that begins with /, got {path!r}")


def _check_tokens(options: Options) -> None:
    """Who asks for tokens that nothing can check would let everybody in."""
    jwt = options.jwt
    has_key = bool(keys(options).tokens or jwt.public_key or jwt.jwks_url)
    if jwt.enforce and not has_key:
        raise ConfigError(
            "enforce_jwt: expected a key to check tokens with, such as jwt_secret, got none"
        )
    if _PARAM.fullmatch(jwt.param) is None:
        raise ConfigError(f"jwt_param: expected letters, digits, - and _, got {jwt.param!r}")
    if jwt.jwks_url and not jwt.jwks_url.startswith(("https://", "http://")):
        raise ConfigError(f"jwt_jwks_url: expected http(s)://…, got {jwt.jwks_url!r}")


def _check_pair(one: str, first: str, other: str, second: str) -> None:
    if bool(first) != bool(second):
        given, missing = (one, other) if first else (other, one)
        raise ConfigError(f"{given}: expected {missing} beside it, got {given} alone")


def _is_harmless(entry: Entry, value: Value, options: Options) -> bool:
    """Whether a value asks for no more than the default does."""
    if value == entry.default or value in entry.option.harmless:
        return True
    twin = next((row for row in TABLE if row.place == entry.option.same_as), None)
    return twin is not None and value == twin.value_in(options)


def _others(entry: Entry) -> str:
    others = [choice for choice in entry.choices if choice and choice not in entry.option.later]
    return f"; available: {', '.join(others)}" if others else ""
