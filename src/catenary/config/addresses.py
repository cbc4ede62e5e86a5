"""Addresses of NATS, Redis and StatsD as options write them; the checks, the clients and the embedded server use these.

Sources: docs/embedded_nats.md; "Redis" of docs/configuration.md (anycable). Knows: text. Does not know: which option it is.
"""

import re
from typing import Any, Final

import msgspec

from catenary.config.urls import UNENCODED, Url, host_and_port, joined, read_url
from catenary.errors import ConfigError

NATS_PORT: Final = 4222
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
STATSD_PORT: Final = 8125


class NatsAddress(msgspec.Struct, frozen=True):
    """``nats://USER:PASSWORD@HOST:PORT``; a user without a password is a token. Empty: not given."""

    host: str
    port: int
    user: str = ""
    password: str = ""
    is_encrypted: bool = False

    @property
    def url(self) -> str:
        """The address without user and password, for logs."""
        scheme = "tls" if self.is_encrypted else "nats"
        return f"{scheme}://{joined(self.host, self.port)}"


class Gateway(msgspec.Struct, frozen=True):
    """Another cluster: its name, and URLs of some of its gateways."""

    name: str
    urls: tuple[str, ...]


def server_address(text: str) -> NatsAddress:
    """Reads the address of a server; ``nats://`` and the port are optional, ``tls://`` means TLS.

    Raises ValueError that says what was expected.
    """
    return _address(text, "nats://HOST:PORT or tls://HOST:PORT", default_port=NATS_PORT)


def listening_address(text: str) -> NatsAddress:
    """Reads an address to listen on: with a port, without a user. Raises ValueError as :func:`server_address`."""
    form = "nats://HOST:PORT"
    found = _address(text, form, default_port=None)
    if found.user or found.password or found.is_encrypted:
        raise ValueError(f"expected {form} without a user and without TLS")
    return found


def gateway(text: str) -> Gateway:
    """Reads ``NAME:ADDRESS,ADDRESS``. Raises ValueError as :func:`server_address`."""
    name, _, rest = text.partition(":")
    urls = tuple(url.strip() for url in rest.split(",") if url.strip())
    # Without a name, the text before the first colon is a scheme.
    if not name.strip() or not urls or urls[0].startswith("//"):
        raise ValueError("expected NAME:ADDRESS,ADDRESS with addresses as nats://HOST:PORT")
    for url in urls:
        server_address(url)
    return Gateway(name.strip(), urls)


def nats_login(address: NatsAddress) -> dict[str, object]:
    """The fields of a client's CONNECT message."""
    credentials: dict[str, object] = {}
    if address.password:
        credentials = {"user": address.user, "pass": address.password}
    elif address.user:
        credentials = {"auth_token": address.user}
    return credentials | {
        "verbose": False,
        "pedantic": False,
        "headers": True,
        "no_responders": True,
        "lang": "python",
        "version": "1",
        "name": "catenary",
        "protocol": 1,
    }


def _address(text: str, form: str, *, default_port: int | None) -> NatsAddress:
    try:
        found = read_url(text, default_scheme="nats")
    except ValueError as error:
        words = " a port from 1 to 65535 in" if "a port" in str(error) else ""
        raise ValueError(f"expected{words} {form}") from error
    port = found.port or default_port
    if port is None:
        raise ValueError(f"expected a port from 1 to 65535 in {form}")
    if (
        found.scheme not in ("nats", "tls")
        or not found.host
        or found.path not in ("", "/")
        or found.query
        or text.endswith("#")
        or "#" in text
    ):
        raise ValueError(f"expected {form}")
    return NatsAddress(
        host=found.host,
        port=port,
        user=found.user,
        password=found.password,
        is_encrypted=found.scheme == "tls",
    )


class RedisServer(msgspec.Struct, frozen=True, kw_only=True):
    """A Redis server or a sentinel.

    With the ``path`` of a Unix socket, host and port are unused. ``unknown`` lists parameters of the URL
    that have no effect.
    """

    host: str = "localhost"
    port: int = REDIS_PORT
    path: str = ""
    db: int = 0
    user: str = ""
    password: str = ""
    client_name: str = ""
    is_encrypted: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The address without user and password, for logs."""
        return self.path or joined(self.host, self.port)


REDIS_FORM: Final = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=DB"
SENTINEL_FORM: Final = "HOST:PORT, redis://HOST:PORT or rediss://HOST:PORT"
_REDIS_SCHEMES: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_KNOWN: Final = frozenset({"db", "user", "username", "password", "name", "client_name"})
_ELSEWHERE: Final = {
    "master_set": "the master's name as the host, and redis_sentinels",
    "addr": "the nodes of a Redis Cluster, separated by commas,",
}
_CLUSTER: Final = "+cluster://"
_COMMA: Final = re.compile(r",(?=[a-z+]+://)|,(?=[^@]*$)")
"""Separates nodes; a comma in a password does not."""


def redis_server(text: str) -> RedisServer:
    """Reads the URL of a Redis server; ``redis://`` is optional, ``valkey://`` an alias.

    Raises ValueError that says what was expected, and shows nothing of the URL: it may contain a password.
    """
    if text.startswith("/"):
        text = f"unix://{text}"
    elif text.startswith("unix:/") and not text.startswith("unix://"):
        text = text.replace("unix:", "unix://", 1)
    found = _read(text, REDIS_FORM)
    parameters = found.parameters
    for name, instead in _ELSEWHERE.items():
        if name in parameters:
            raise ValueError(f"expected {instead} in place of the parameter {name}")
    is_socket = found.scheme == "unix"
    if is_socket and (found.host or found.path in ("", "/")):
        raise ValueError(f"expected unix:///PATH, got {'a host' if found.host else 'no path'}")
    if not is_socket and found.scheme not in _REDIS_SCHEMES:
        raise ValueError(f"expected {REDIS_FORM}, got {found.scheme}://…")
    db = parameters.get("db", "") or ("" if is_socket else found.path.strip("/"))
    if db and not (db.isascii() and db.isdecimal()):
        raise ValueError(f"expected the number of a database in {REDIS_FORM}")
    return RedisServer(
        host=found.host or "localhost",
        port=found.port or REDIS_PORT,
        path=found.path if is_socket else "",
        db=int(db or 0),
        user=found.user or parameters.get("username", "") or parameters.get("user", ""),
        password=found.password or parameters.get("password", ""),
        client_name=parameters.get("client_name", "") or parameters.get("name", ""),
        is_encrypted=_REDIS_SCHEMES.get(found.scheme, False),
        unknown=tuple(name for name in parameters if name not in _KNOWN),
    )


def cluster_nodes(text: str) -> tuple[RedisServer, ...]:
    """Reads the nodes of a Redis Cluster that are queried for the others; empty if the text names a single server.

    A list separated by commas names a cluster, as in anycable-go; so does one URL whose scheme ends in ``+cluster``. A node
    without user and password uses those of the first one. All use TLS if the first one does. Raises ValueError as
    :func:`redis_server`.
    """
    texts = _COMMA.split(text)
    if len(texts) == 1 and _CLUSTER not in text:
        return ()
    nodes = [redis_server(each.strip().replace(_CLUSTER, "://", 1)) for each in texts]
    first = nodes[0]
    for node in nodes:
        if node.path:
            raise ValueError("expected hosts of a Redis Cluster, got the path of a Unix socket")
        if node.db:
            raise ValueError(f"expected database 0, the only one of a Redis Cluster, got {node.db}")
    return tuple(
        msgspec.structs.replace(
            first,
            host=node.host,
            port=node.port,
            user=node.user or first.user,
            password=node.password or first.password,
        )
        for node in nodes
    )


def sentinel_server(text: str) -> RedisServer:
    """Reads the address of a sentinel; a user without a colon is a password. Raises ValueError as :func:`redis_server`."""
    found = _read(text, SENTINEL_FORM)
    if found.scheme not in _REDIS_SCHEMES or not found.host:
        raise ValueError(f"expected {SENTINEL_FORM}")
    return RedisServer(
        host=found.host,
        port=found.port or SENTINEL_PORT,
        user=found.user if found.has_password else "",
        password=found.password if found.has_password else found.user,
        is_encrypted=_REDIS_SCHEMES[found.scheme],
    )


def _read(text: str, form: str) -> Url:
    try:
        found = read_url(text, default_scheme="redis")
    except ValueError as error:
        raise ValueError(f"expected {form}, {error}") from error
    if "@" in found.path + found.query and not found.user and not found.has_password:
        raise ValueError(f"expected {form}, {UNENCODED}")
    return found


class RedisAddress(msgspec.Struct, frozen=True):
    """The address of Redis as the options give it.

    ``url`` may name several nodes of a Redis Cluster. With ``sentinels``, its host is the master's name, in its own case.
    A sentinel without user and password uses those of the first one. An idle connection is probed after ``keepalive_s``
    seconds. The paths name PEM files; an empty one is not given.
    """

    url: str
    sentinels: tuple[str, ...] = ()
    keepalive_s: int = 30
    tls_verify: bool = False
    tls_ca_path: str = ""
    tls_client_cert_path: str = ""
    tls_client_key_path: str = ""

    @property
    def cluster_nodes(self) -> tuple[RedisServer, ...]:
        """The known nodes of a Redis Cluster; empty if Redis is not one. Raises :class:`ConfigError`."""
        try:
            nodes = cluster_nodes(self.url)
        except ValueError as error:
            raise ConfigError(f"redis_url: {error}") from None
        if nodes and self.sentinels:
            raise ConfigError(
                "redis_url: expected the master's name beside redis_sentinels, got a Redis Cluster"
            )
        return nodes

    @property
    def server(self) -> RedisServer:
        """The server; with sentinels, the settings for the master that they will name; of a cluster, the first node.

        As in anycable-go, ``rediss://`` among the sentinels means that the master uses TLS.
        Raises :class:`ConfigError`.
        """
        nodes = self.cluster_nodes
        if nodes:
            return nodes[0]
        try:
            server = redis_server(self.url)
        except ValueError as error:
            raise ConfigError(f"redis_url: {error}") from None
        if not self.sentinels:
            return server
        if server.path:
            raise ConfigError(
                "redis_url: expected the master's name beside redis_sentinels, got a path"
            )
        if not read_url(self.url, default_scheme="redis").host:
            server = msgspec.structs.replace(server, host=DEFAULT_MASTER)
        is_encrypted = server.is_encrypted or any(
            each.is_encrypted for each in self.sentinel_servers
        )
        return msgspec.structs.replace(server, is_encrypted=is_encrypted)

    @property
    def sentinel_servers(self) -> tuple[RedisServer, ...]:
        """The sentinels in the order in which they are queried. Raises :class:`ConfigError`.

        One with ``rediss://`` is queried over TLS. anycable-go queries it in plain text, so plain text is
        tried next, unless certificates are verified: then nothing is sent in plain text.
        """
        try:
            given = [sentinel_server(each) for each in self.sentinels]
        except ValueError as error:
            raise ConfigError(f"redis_sentinels: {error}") from None
        found: list[RedisServer] = []
        for each in given:
            known = each
            if not each.user and not each.password:
                known = msgspec.structs.replace(
                    each, user=given[0].user, password=given[0].password
                )
            found.append(known)
            if known.is_encrypted and not self.tls_verify:
                found.append(msgspec.structs.replace(known, is_encrypted=False))
        return tuple(found)


DEFAULT_MASTER: Final = "mymaster"
_REPRESENTATION: Final = re.compile(r"<redis\.[^ ]*<.*?>\)>\)> - ")


def redis_reason(error: Exception) -> str:
    """The message of a redis-py error, for the log. Removes the representations of sentinel clients, which
    contain passwords before redis-py 8."""
    return _REPRESENTATION.sub("", str(error)) or type(error).__name__


def redis_settings(address: RedisAddress, server: RedisServer) -> dict[str, Any]:
    """Keyword arguments for any redis-py client of this server."""
    settings: dict[str, Any] = {
        "db": server.db,
        "username": server.user or None,
        "password": server.password or None,
        "client_name": server.client_name or None,
    }
    if server.path:
        return settings | {"unix_socket_path": server.path}
    settings |= {"host": server.host, "port": server.port, "socket_keepalive": True}
    if not server.is_encrypted:
        return settings
    return settings | {
        "ssl": True,
        "ssl_cert_reqs": "required" if address.tls_verify else "none",
        "ssl_check_hostname": address.tls_verify,
        "ssl_ca_certs": address.tls_ca_path or None,
        "ssl_certfile": address.tls_client_cert_path or None,
        "ssl_keyfile": address.tls_client_key_path or None,
    }


def statsd_address(text: str) -> tuple[str, int]:
    """Reads the host and the UDP port of a StatsD server. Raises :class:`ConfigError`."""
    try:
        host, port = host_and_port(text.strip())
    except ValueError as error:
        raise ConfigError(f"statsd_host: expected HOST:PORT, {error}") from None
    return host, STATSD_PORT if port is None else port
