"""Addresses of NATS and Redis as options write them: one for the checks, for clients and for servers.

Sources: docs/embedded_nats.md; "Redis" of docs/configuration.md (anycable). Knows: text. Does not know: which option it is.
"""

from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from catenary.errors import ConfigError

NATS_PORT: Final = 4222


class NatsAddress(msgspec.Struct, frozen=True):
    """``nats://USER:PASSWORD@HOST:PORT``; a user without a password is a token. Empty: not given."""

    host: str
    port: int
    user: str = ""
    password: str = ""
    is_encrypted: bool = False

    @property
    def url(self) -> str:
        """Where it is, without who asks: fit for a log."""
        scheme = "tls" if self.is_encrypted else "nats"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


class Gateway(msgspec.Struct, frozen=True):
    """Another cluster: its name, and URLs of some of its gateways."""

    name: str
    urls: tuple[str, ...]


def server_address(text: str) -> NatsAddress:
    """Where a server is: ``nats://`` and the port may be left out, ``tls://`` asks for TLS.

    Raises ValueError with what was expected.
    """
    return _address(text, "nats://HOST:PORT or tls://HOST:PORT", default_port=NATS_PORT)


def listening_address(text: str) -> NatsAddress:
    """Where to listen: with a port, and without a user. Raises ValueError as above."""
    form = "nats://HOST:PORT"
    found = _address(text, form, default_port=None)
    if found.user or found.password or found.is_encrypted:
        raise ValueError(f"expected {form} without a user and without TLS")
    return found


def gateway(text: str) -> Gateway:
    """Reads ``NAME:ADDRESS,ADDRESS``. Raises ValueError as above."""
    name, _, rest = text.partition(":")
    urls = tuple(url.strip() for url in rest.split(",") if url.strip())
    # Without a name the first word is a scheme.
    if not name.strip() or not urls or urls[0].startswith("//"):
        raise ValueError("expected NAME:ADDRESS,ADDRESS with addresses as nats://HOST:PORT")
    for url in urls:
        server_address(url)
    return Gateway(name.strip(), urls)


def nats_login(address: NatsAddress) -> dict[str, object]:
    """What a client says in its CONNECT."""
    who: dict[str, object] = {}
    if address.password:
        who = {"user": address.user, "pass": address.password}
    elif address.user:
        who = {"auth_token": address.user}
    return who | {
        "verbose": False,
        "pedantic": False,
        "headers": True,
        "no_responders": True,
        "lang": "python",
        "version": "1",
        "name": "catenary",
        "protocol": 1,
    }


class RedisAddress(msgspec.Struct, frozen=True):
    """Where Redis is.

    With ``sentinels`` (``host:port``, with or without ``user:password@``), the host of ``url`` is
    the master's name. After ``keepalive_s`` without a word the connection is probed. The paths are
    of PEM files; empty ones count as not given.
    """

    url: str
    sentinels: tuple[str, ...] = ()
    keepalive_s: int = 30
    tls_verify: bool = False
    tls_ca_path: str = ""
    tls_client_cert_path: str = ""
    tls_client_key_path: str = ""

    @property
    def sentinel_hosts(self) -> list[tuple[str, int]]:
        """Host and port of each. Raises :class:`catenary.errors.ConfigError`."""
        return [_host_and_port(each) for each in self.sentinels]


def redis_settings(address: RedisAddress) -> dict[str, Any]:
    """What redis-py is told beside the URL, whichever of its clients it is."""
    settings: dict[str, Any] = {"socket_keepalive": True}
    if not address.url.startswith("rediss://"):
        return settings
    return settings | {
        "ssl_cert_reqs": "required" if address.tls_verify else "none",
        "ssl_check_hostname": address.tls_verify,
        "ssl_ca_certs": address.tls_ca_path or None,
        "ssl_certfile": address.tls_client_cert_path or None,
        "ssl_keyfile": address.tls_client_key_path or None,
    }


def sentinel_credentials(sentinel: str) -> dict[str, str]:
    """Who asks a sentinel, as redis-py is told it."""
    user, colon, password = sentinel.rpartition("@")[0].partition(":")
    if not user and not password:
        return {}
    return {"username": user, "password": password} if colon else {"password": user}


def _host_and_port(sentinel: str) -> tuple[str, int]:
    host, _, port = sentinel.rpartition("@")[2].partition(":")
    if port and not port.isdecimal():
        raise ConfigError(f"redis_sentinels: expected HOST:PORT, got a port of {port!r}")
    return host, int(port or 26379)


def _address(text: str, form: str, *, default_port: int | None) -> NatsAddress:
    split = _split(text if "://" in text else f"nats://{text}", form)
    try:
        port = split.port or default_port
    except ValueError as error:
        raise ValueError(f"expected a port from 1 to 65535 in {form}") from error
    if split.port == 0 or port is None:
        raise ValueError(f"expected a port from 1 to 65535 in {form}")
    if (
        split.scheme not in ("nats", "tls")
        or not split.hostname
        or split.path not in ("", "/")
        or split.query
        or split.fragment
        or not text.isprintable()
        or " " in text
    ):
        raise ValueError(f"expected {form}")
    return NatsAddress(
        host=split.hostname,
        port=port,
        user=unquote(split.username or ""),
        password=unquote(split.password or ""),
        is_encrypted=split.scheme == "tls",
    )


def _split(url: str, form: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ValueError(f"expected {form}") from error
