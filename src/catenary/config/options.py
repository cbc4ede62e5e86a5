"""Every option of the server, once: name, type, default, flag, variable, TOML key, meaning.

Each class is the group of one room: a room receives its own group, and ``Options``, which holds one of each,
stays in the assembly. The value of a field declares its row in the table; flag, variable and TOML key derive
from the field's name unless the row states them.
Follows anycable-go 1.6.16: its flags, its ``ANYCABLE_*`` variables, its ``anycable.toml``.
Knows: facts about options. Does not know: where a value comes from; see ``load``.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, TypeVar, get_args, get_origin

import msgspec

Value = int | bool | str | tuple[str, ...]
Kind = Literal["int", "bool", "str", "list", "tags", "tables"]

PORT_MAX: Final = 65535
ALL_PORTS: Final = "all"
"""An entry of ``proxy_protocol``."""
INT_MAX: Final = 2**63 - 1
DERIVED: Final = ""
"""The value of a field of :class:`Option` that derives from the :class:`Section` of its class."""

_UNIT: Final = re.compile("_(s|ms|bytes)$")
_V = TypeVar("_V")

SERVER: Final = "SERVER"
SSL: Final = "SSL"
BROADCASTING: Final = "BROADCASTING"
BROKER: Final = "BROKER"
REDIS: Final = "REDIS"
REDIS_X_BROADCAST: Final = "REDIS X BROADCAST"
HTTP_BROADCAST: Final = "HTTP BROADCAST"
NATS: Final = "NATS"
RPC: Final = "RPC"
DISCONNECTOR: Final = "DISCONNECTOR"
LOG: Final = "LOG"
METRICS: Final = "METRICS"
WEBSOCKETS: Final = "WEBSOCKETS"
PING: Final = "PING"
JWT: Final = "JWT"
SIGNED_STREAMS: Final = "SIGNED STREAMS"
STATSD: Final = "STATSD"
TRACING: Final = "TRACING"
EMBEDDED_NATS: Final = "EMBEDDED NATS"
SSE: Final = "SERVER-SENT EVENTS"
PUSHER: Final = "PUSHER"
DURABLE_STREAMS: Final = "DURABLE STREAMS"
API: Final = "API"
LONG_POLLING: Final = "LONG POLLING"
GRAPHQL: Final = "GRAPHQL"
OCPP: Final = "OCPP"
ADMIN: Final = "ADMIN CONSOLE"
DEPLOYMENT: Final = "DEPLOYMENT"
LIMITS: Final = "LIMITS"

LogLevel = Literal["debug", "info", "warn", "error"]
LogFormat = Literal["text", "json"]
TimestampPrecision = Literal["s", "ms", "ns"]
DisconnectMode = Literal["auto", "always", "never"]
RpcImplementation = Literal["", "grpc", "http", "none"]
BroadcastAdapter = Literal["http", "redis", "redisx", "nats"]
BrokerAdapter = Literal["", "none", "memory", "nats", "redis"]
PubSubAdapter = Literal["", "none", "redis", "nats"]
JwtAlgorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]
Preset = Literal["none", "fly", "heroku", "broker"]
NO_SECRET: Final = ("access.secret", "none")
"""A place and its value that is the same as an empty one, and printed for it, as in anycable-go."""

AddressHeader = Literal["x-forwarded-for", "forwarded"]
StatsdTagsFormat = Literal["datadog", "influxdb", "influx", "graphite"]
OtelExporter = Literal["otlp", "console"]


class Option(msgspec.Struct, frozen=True):
    """Everything that parsing, ``--help``, ``--print-config`` and the documentation need of one option.

    - ``brief``: its line in ``--help``, which has the most used options; empty: it is in ``--help-all`` only.
    - ``group``: its heading in ``--help-all``; ``toml``: its dotted key.
    - ``flag``: None if it has neither a flag nor a variable of its own.
    - ``variables``: read after the one that derives from the flag (``--max-conn``: ``ANYCABLE_MAX_CONN``);
      ``flag_aliases`` have derived variables, too.
    - ``minimum``, ``maximum``: bounds of an int, inclusive.
    - ``separator``: splits a list; ``joined`` lists are printed to TOML as one string, ``tags`` as a table.
    - ``tables``: an array of tables, each kept as JSON text; a flag or a variable has all as a JSON array.
    - ``reloadable``: a running server applies a new value when it reads its configuration again (SIGHUP); a part of
      it does that, see ``server/reloads.py``. Others need a restart.
    - ``secret``: never shown in an error. ``hidden``: left out of ``--help-all``.
    - ``required``: an empty value means the default. ``filled``: an empty variable counts as unset.
    - ``deprecated``: the replacement.
    """

    help: str
    brief: str = ""
    group: str = DERIVED
    flag: str | None = DERIVED
    toml: str = DERIVED
    variables: tuple[str, ...] = ()
    flag_aliases: tuple[str, ...] = ()
    toml_aliases: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = INT_MAX
    separator: str = ","
    joined: bool = False
    tags: bool = False
    tables: bool = False
    reloadable: bool = False
    secret: bool = False
    hidden: bool = False
    required: bool = False
    filled: bool = False
    deprecated: str | None = None


class Section(msgspec.Struct, frozen=True):
    """Derives heading, flag and TOML key of the options of one class from their names.

    ``flags`` and ``toml`` are prefixes of an option's name without its unit: ``interval_s`` in
    ``Section(PING, flags="ping_", toml="ping.")`` becomes ``--ping_interval`` and ``ping.interval``.
    """

    group: str
    flags: str = ""
    toml: str = ""

    def complete(self, name: str, stated: Option) -> Option:
        """The option with all derived fields and all of its variables."""
        stem = _UNIT.sub("", name)
        flag = self.flags + stem if stated.flag == DERIVED else stated.flag
        flags = stated.flag_aliases if flag is None else (flag, *stated.flag_aliases)
        return msgspec.structs.replace(
            stated,
            group=stated.group or self.group,
            flag=flag,
            toml=stated.toml or self.toml + stem,
            variables=(*map(variable_of, flags), *stated.variables),
        )


class _Declared(msgspec.Struct, frozen=True):
    """Placeholder for a field in the body of its class, until :class:`_GroupMeta` replaces it by the default."""

    default: object
    option: Option


def option(default: _V, help: str, **stated: Any) -> _V:
    """Declares an option, as the value of a class attribute whose annotation gives its type.

    ``stated`` sets fields of :class:`Option` that do not derive from the attribute's name.
    """
    declared: Any = _Declared(default, Option(help, **stated))
    return declared  # type: ignore[no-any-return]


class _GroupMeta(msgspec.StructMeta):
    """Splits declared options into the defaults of the struct and the class attribute ``options``.

    Dataclasses have metadata for this, but building thirty of them takes 30 ms at every start.
    """

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any
    ) -> "_GroupMeta":
        declared = {key: row for key, row in namespace.items() if isinstance(row, _Declared)}
        defaults = {key: row.default for key, row in declared.items()}
        group: Any = super().__new__(mcs, name, bases, {**namespace, **defaults}, **config)
        group.options = {key: row.option for key, row in declared.items()}
        return group  # type: ignore[no-any-return]


class Group(msgspec.Struct, metaclass=_GroupMeta, frozen=True, kw_only=True):
    """Options of one room; ``options`` maps each field to its row."""

    section: ClassVar[Section]
    options: ClassVar[Mapping[str, Option]]


def variable_of(flag: str) -> str:
    """The environment variable of a flag: ``max-conn`` → ``ANYCABLE_MAX_CONN``."""
    return "ANYCABLE_" + flag.upper().replace("-", "_")


class ServerOptions(Group, frozen=True, kw_only=True):
    """Addresses, ports and paths of the server; allowed origins; TLS."""

    section = Section(SERVER, toml="server.")

    host: str = option(
        "localhost",
        "Address to listen on",
        brief="Address to listen on (localhost)",
    )
    port: int = option(
        8080,
        "Port to listen on",
        brief="Port to listen on (8080)",
        variables=("PORT",),
        maximum=PORT_MAX,
    )
    max_conn: int = option(0, "Maximum number of connected clients (0: no limit)", flag="max-conn")
    health_path: str = option(
        "/health", "Path of the health check", flag="health-path", filled=True
    )
    ready_path: str = option(
        "/ready",
        "Path of the readiness check",
        flag="ready-path",
        filled=True,
    )
    ready_connect_failures: int = option(
        0,
        "Not ready while at least this percentage of new clients could not connect because the application"
        " failed (0: the application does not matter)",
        maximum=100,
    )
    ready_connect_window_s: int = option(
        30, "Time over which ready_connect_failures counts, in seconds", minimum=1
    )
    ready_connect_calls: int = option(
        20, "New clients in that time below which ready_connect_failures has no effect", minimum=1
    )
    workers: int = option(
        1,
        "Number of processes that share the ports; each is a node with limits of its own",
        brief="Number of processes that share the ports (1)",
        minimum=1,
    )
    worker_timeout_s: int = option(
        30,
        "Time after which a worker whose event loop hangs is killed and replaced, in seconds (0: never)",
        flag="worker_timeout",
    )
    worker_start_timeout_s: int = option(
        60,
        "Time limit from the start of a worker until it serves, in seconds; beyond, it is killed and replaced (0: no limit)",
        flag="worker_start_timeout",
    )
    handover_socket: str = option(
        "",
        "Path of a Unix socket at which a new server takes over the ports of the running one, which then"
        " shuts down (empty: none)",
    )
    asgi: str = option(
        "", "ASGI application (module:name) that serves all other paths of the server's port"
    )
    allowed_origins: tuple[str, ...] = option(
        (),
        "Origins that may connect, such as www.example.com, *.example.io or https://example.com"
        " (empty: all)",
        joined=True,
        reloadable=True,
    )
    trusted_proxies: tuple[str, ...] = option(
        (),
        "Networks of reverse proxies and load balancers that name the client, such as 10.0.0.0/8,fd00::/8; unix: peers of"
        " Unix sockets (empty: none)",
        reloadable=True,
    )
    client_address_header: AddressHeader = option(
        "x-forwarded-for", "Header in which the trusted proxies name the client"
    )
    proxy_protocol: tuple[str, ...] = option(
        (),
        "Ports, or all, at which connections of trusted proxies begin with a PROXY protocol header (version 1 or 2)",
    )
    ssl_cert: str = option(
        "",
        "Path of the TLS certificate (PEM)",
        group=SSL,
        toml="server.ssl.cert_path",
        reloadable=True,
    )
    ssl_key: str = option(
        "",
        "Path of the TLS private key (PEM)",
        group=SSL,
        toml="server.ssl.key_path",
        reloadable=True,
    )


class AppOptions(Group, frozen=True, kw_only=True):
    """Processes of the server that run the application's code."""

    section = Section(SERVER, toml="app.")

    workers: int = option(
        0,
        "Number of processes that run the code of catenary app:cable and are replaced on SIGHUP"
        " (0: it runs in the server's process)",
        flag="app_workers",
    )
    reload: bool = option(
        False,
        "Reload the code of catenary app:cable when a Python file in the current directory changes"
        " (in one app worker unless app_workers is set); with asgi, also of its pages: the process that serves clients is replaced",
    )


class AccessOptions(Group, frozen=True, kw_only=True):
    """Secrets and switches that concern several rooms; ``effective`` applies them."""

    section = Section(SERVER)

    secret: str = option(
        "",
        "Application secret, from which the keys of broadcasting, HTTP RPC, signed streams, JWT and the"
        " API are derived unless they are given (none: no secret)",
        brief="Secret of tokens, streams, publishers and the API",
        secret=True,
        reloadable=True,
    )
    broadcast_key: str = option(
        "",
        "Key that publishers over HTTP must send, except with --public (none: no key)",
        secret=True,
        reloadable=True,
    )
    public: bool = option(
        False,
        "[UNSAFE] Let anyone connect, subscribe to any stream and publish",
        brief="Let anyone connect, subscribe and publish",
    )
    rotation_grace_s: int = option(
        3600,
        "Time in which a secret that a reload has replaced is still accepted, in seconds",
        flag="secret_rotation_grace",
        toml="secret_rotation_grace",
        reloadable=True,
    )
    noauth: bool = option(False, "[UNSAFE] Let anyone connect without a call to the application")


class NodeOptions(Group, frozen=True, kw_only=True):
    """The node itself: its name, its shutdown, its statistics."""

    section = Section(SERVER, toml="app.")

    node_id: str = option(
        "",
        "Name of this node in logs and between nodes (empty: generated at each start)",
        toml="node_id",
        hidden=True,
    )
    shutdown_timeout_s: int = option(30, "Time limit of a graceful shutdown, in seconds")
    shutdown_delay_s: int = option(0, "Delay between the signal and the shutdown, in seconds")
    shutdown_slowdrain: bool = option(
        False, "Spread the disconnects of a shutdown over most of shutdown_timeout"
    )
    shutdown_pool_size: int = option(
        16,
        "Accepted without effect: there is no goroutine pool",
        toml="app.shutdown_disconnect_gopool_size",
        toml_aliases=("app.shutdown_pool_size",),
        hidden=True,
    )
    hub_pool_size: int = option(
        16,
        "Accepted without effect: there is no goroutine pool",
        group=BROADCASTING,
        flag="hub_gopool_size",
        toml="app.broadcast_gopool_size",
        toml_aliases=("app.hub_gopool_size",),
        hidden=True,
    )
    stats_refresh_interval_s: int = option(
        5, "Interval at which gauges are refreshed, in seconds", group=METRICS
    )


class DeploymentOptions(Group, frozen=True, kw_only=True):
    """The platform on which the server runs."""

    section = Section(DEPLOYMENT)

    presets: tuple[Preset, ...] = option(
        (), "Sets of defaults: fly, heroku, broker, none (empty: detected from the environment)"
    )
    disable_telemetry: bool = option(
        False,
        "Accepted without effect: no telemetry is sent",
        flag=None,
        variables=("ANYCABLE_DISABLE_TELEMETRY",),
        hidden=True,
    )


class WebSocketOptions(Group, frozen=True, kw_only=True):
    """The cable's WebSocket endpoint."""

    section = Section(WEBSOCKETS, toml="ws.")

    paths: tuple[str, ...] = option(
        ("/cable",),
        "Paths of the cable; a trailing * and {placeholders} are allowed",
        group=SERVER,
        flag="path",
        toml_aliases=("ws.path",),
        required=True,
    )
    max_message_size_bytes: int = option(
        65536, "Maximum size of a message from a client, in bytes", minimum=1, hidden=True
    )
    max_pending_size_bytes: int = option(
        1048576,
        "Maximum of unsent data for a client; beyond, it is disconnected as too slow, in bytes"
        " (0: no limit)",
        flag="ws_max_pending_size",
    )
    write_timeout_s: int = option(
        2,
        "Time limit for a client's answer to a close frame, in seconds",
        flag="ws_write_timeout",
    )
    read_buffer_size_bytes: int = option(
        1024,
        "Accepted without effect: connections have no read buffer (bytes)",
        hidden=True,
    )
    write_buffer_size_bytes: int = option(
        1024,
        "Accepted without effect: connections have no write buffer (bytes)",
        hidden=True,
    )
    enable_compression: bool = option(
        False,
        "Compress messages (permessage-deflate) for clients that offer it",
        flag="enable_ws_compression",
        toml_aliases=("ws.enable_ws_compression",),
        hidden=True,
    )
    netpoll: bool = option(
        True,
        "Accepted without effect: sockets are always polled (epoll, kqueue)",
        flag="netpoll_enabled",
        toml="ws.netpoll_enabled",
        hidden=True,
    )


class PingOptions(Group, frozen=True, kw_only=True):
    """Heartbeats."""

    section = Section(PING, toml="app.")

    interval_s: int = option(
        3,
        "Interval of pings to clients, in seconds (0: none; a client may choose another with ?pi=)",
        flag="ping_interval",
        toml="app.ping_interval",
    )
    timestamp_precision: TimestampPrecision = option(
        "s",
        "Unit of the timestamp in a ping (a client may choose another with ?ptp=)",
        flag="ping_timestamp_precision",
        toml="app.ping_timestamp_precision",
        hidden=True,
    )
    pong_timeout_s: int = option(
        0,
        "Time limit for a client's pong before it is disconnected, in seconds (0: pongs are not"
        " required)",
    )
    native: bool = option(
        False,
        "Also send WebSocket ping frames",
        flag="enable_native_pings",
        toml="app.enable_native_ping",
        toml_aliases=("app.enable_native_pings",),
    )


class LimitOptions(Group, frozen=True, kw_only=True):
    """Limits on what a client may cost, so that none harms the others. See docs/limits.md."""

    section = Section(LIMITS, toml="limits.")

    max_header_size_bytes: int = option(
        65536, "Maximum size of a request head, in bytes", minimum=1024
    )
    max_headers: int = option(128, "Maximum number of headers of a request", minimum=16)
    handshake_timeout_s: int = option(
        5,
        "Time limit from the connection to a complete request head, in seconds",
        minimum=1,
    )
    max_waiting_handshakes: int = option(
        4096,
        "Maximum number of handshakes that wait for their turn; beyond, clients get 503",
        minimum=1,
    )
    max_connect_rate: int = option(
        0,
        "Maximum number of clients that connect per second, of each process; beyond, clients get 503 (0: no limit)",
        reloadable=True,
    )
    max_address_connect_rate: int = option(
        0,
        "Maximum number of clients that connect per second from an address, an IPv6 /64 being one; beyond,"
        " clients get 429 (0: no limit)",
        reloadable=True,
    )
    max_address_connections: int = option(
        0,
        "Maximum number of open connections of an address at each process, an IPv6 /64 being one; beyond,"
        " clients get 429 (0: no limit)",
        reloadable=True,
    )
    max_user_connections: int = option(
        0,
        "Maximum number of clients with the same connection identifiers at each process; beyond, new ones are"
        " disconnected and may come back (0: no limit)",
        reloadable=True,
    )
    max_command_rate: int = option(
        0,
        "Maximum number of commands of a client per second; beyond, it is disconnected and may come back (0: no limit)",
        reloadable=True,
    )
    max_publish_rate: int = option(
        0,
        "Maximum number of publications over HTTP per second, of an address or of a Pusher app, at each process;"
        " beyond, publishers get 429 (0: no limit)",
        reloadable=True,
    )
    max_pending_requests_size_bytes: int = option(
        64 * 1024 * 1024,
        "Maximum size of all incomplete requests together, in bytes; beyond, the oldest get 503"
        " (0: no limit)",
    )
    message_timeout_s: int = option(
        30,
        "Time limit from the first byte of a message to its last, in seconds (0: no limit)",
        flag="ws_message_timeout",
    )
    max_message_rate: int = option(
        1000,
        "Maximum number of messages read from a client per second, pings included; more are read"
        " later (0: no limit)",
        flag="ws_max_message_rate",
    )
    max_identifier_size: int = option(
        8192,
        "Maximum length of a subscription's identifier, in characters (0: no limit)",
        reloadable=True,
    )
    max_subscriptions: int = option(
        1000, "Maximum number of subscriptions of a client (0: no limit)", reloadable=True
    )
    max_streams: int = option(
        65536, "Maximum number of streams of a subscription (0: no limit)", reloadable=True
    )
    max_stream_name_size: int = option(
        8192, "Maximum length of a stream's name, in characters (0: no limit)", reloadable=True
    )
    max_state_keys: int = option(
        1000,
        "Maximum number of state keys of a connection or a subscription (0: no limit)",
        reloadable=True,
    )
    max_state_size: int = option(
        1048576,
        "Maximum size of the state of a connection or a subscription, of identifiers and of presence"
        " info, in characters (0: no limit)",
        reloadable=True,
    )
    tcp_timeout_s: int = option(
        60,
        "Time without a TCP acknowledgement after which a connection counts as dead, in seconds"
        " (0: the system's default)",
    )


class BroadcastOptions(Group, frozen=True, kw_only=True):
    """Sources of publications."""

    section = Section(BROADCASTING)

    adapters: tuple[BroadcastAdapter, ...] = option(
        ("http", "redis"),
        "Sources of publications; several may be given",
        brief="Sources of publications (http,redis)",
        flag="broadcast_adapter",
        toml="broadcast_adapters",
        toml_aliases=("broadcast_adapter",),
        required=True,
    )
    redis_channel: str = option(
        "__anycable__",
        "Redis channel that carries publications",
        toml="redis_pubsub_broadcast.channel",
        filled=True,
    )
    nats_channel: str = option(
        "__anycable__",
        "NATS subject that carries publications",
        toml="nats_broadcast.channel",
        filled=True,
    )


class HttpBroadcastOptions(Group, frozen=True, kw_only=True):
    """Publications over HTTP."""

    section = Section(HTTP_BROADCAST, flags="http_broadcast_", toml="http_broadcast.")

    port: int = option(
        0,
        "Port that accepts publications (0: the server's own if a key is required, else 8090)",
        maximum=PORT_MAX,
    )
    path: str = option("/_broadcast", "Path that accepts publications", filled=True)
    secret: str = option(
        "",
        "Key that publishers over HTTP must send",
        secret=True,
        hidden=True,
        deprecated="broadcast_key",
        reloadable=True,
    )
    cors_headers: bool = option(
        False,
        "Allow publications from pages of allowed origins (CORS)",
        flag="http_broadcast_cors",
        hidden=True,
    )
    cors_hosts: tuple[str, ...] = option(
        (),
        "Origins whose pages may publish (empty: allowed_origins)",
        flag=None,
        joined=True,
        hidden=True,
        reloadable=True,
    )


class RedisxOptions(Group, frozen=True, kw_only=True):
    """Publications from a Redis stream, which one node reads at a time."""

    section = Section(REDIS_X_BROADCAST, flags="redisx_", toml="redis_stream_broadcast.")

    stream: str = option("__anycable__", "Redis stream that carries publications", filled=True)
    consumer_group: str = option(
        "bx",
        "Consumer group that the nodes form",
        flag="redisx_group",
        toml="redis_stream_broadcast.group",
        hidden=True,
        filled=True,
    )
    read_block_ms: int = option(
        2000,
        "Time limit of one blocking read of the stream, in milliseconds",
        flag="redisx_read_block_milliseconds",
        toml="redis_stream_broadcast.stream_read_block_milliseconds",
        minimum=1,
        hidden=True,
    )


class PubSubOptions(Group, frozen=True, kw_only=True):
    """Pub/sub between nodes."""

    section = Section(BROADCASTING, flags="pubsub_")

    adapter: PubSubAdapter = option(
        "",
        "Pub/sub between nodes",
        flag="pubsub",
        toml="pubsub_adapter",
        toml_aliases=("pubsub",),
    )
    redis_channel: str = option(
        "__anycable_internal__",
        "Redis channel between nodes",
        flag=None,
        toml="redis_pubsub.channel",
        hidden=True,
    )
    nats_channel: str = option(
        "__anycable_internal__",
        "NATS subject between nodes",
        flag=None,
        toml="nats_pubsub.channel",
        hidden=True,
    )


class BrokerOptions(Group, frozen=True, kw_only=True):
    """Storage of histories, sessions and presence."""

    section = Section(BROKER, toml="broker.")

    adapter: BrokerAdapter = option(
        "",
        "Storage of histories, sessions and presence; nats needs nats-server 2.11 or newer",
        brief="Keep histories in: memory, redis or nats",
        group=BROADCASTING,
        flag="broker",
    )
    history_ttl_s: int = option(300, "Lifetime of the history of a stream, in seconds")
    history_limit: int = option(100, "Maximum number of messages in the history of a stream")
    sessions_ttl_s: int = option(
        300, "Time in which a disconnected session can be resumed, in seconds"
    )
    restored_action: str = option(
        "", "Action to perform on every subscription of a resumed session (empty: none)"
    )
    presence_ttl_s: int = option(
        15, "Time in which a disconnected session stays present, in seconds"
    )


class RedisOptions(Group, frozen=True, kw_only=True):
    """The connection to Redis."""

    section = Section(REDIS, flags="redis_", toml="redis.")

    url: str = option(
        "redis://localhost:6379",
        "URL of Redis: redis://, rediss://, unix:///path or host:port; with sentinels the host is the"
        " master's name; several nodes of a Redis Cluster, or one with redis+cluster://",
        brief="URL of Redis (redis://localhost:6379)",
        variables=("REDIS_URL",),
        secret=True,
        filled=True,
    )
    sentinels: tuple[str, ...] = option(
        (),
        "Redis sentinels: host:port, [::1]:port, :password@host:port; rediss://host:port for TLS",
        joined=True,
        secret=True,
    )
    sentinel_discovery_interval_s: int = option(
        30, "Accepted without effect: sentinels are queried at each connect (seconds)", hidden=True
    )
    keepalive_interval_s: int = option(
        30,
        "Interval of probes of an idle connection, in seconds",
        toml="redis.keepalive_ping_interval",
        toml_aliases=("redis.keepalive_interval",),
        hidden=True,
    )
    tls_verify: bool = option(
        False, "Verify the certificate of Redis (rediss:// URLs)", hidden=True
    )
    tls_ca_cert_path: str = option("", "Path of the CA certificate for Redis")
    tls_client_cert_path: str = option("", "Path of the client certificate for Redis")
    tls_client_key_path: str = option("", "Path of the client key for Redis")
    max_reconnect_attempts: int = option(
        5,
        "Accepted without effect: a lost connection is retried without end",
        flag=None,
        hidden=True,
    )
    disable_cache: bool = option(
        False, "Accepted without effect: client-side caching is never used", hidden=True
    )


class NatsOptions(Group, frozen=True, kw_only=True):
    """The connection to NATS."""

    section = Section(NATS, flags="nats_", toml="nats.")

    servers: tuple[str, ...] = option(
        ("nats://127.0.0.1:4222",),
        "URLs of NATS servers: nats://HOST:PORT, tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before the host",
        joined=True,
        secret=True,
        filled=True,
    )
    dont_randomize_servers: bool = option(
        False, "Connect to the servers in the given order", hidden=True
    )
    creds_path: str = option("", "Path of a .creds file: a user's JWT and nkey, for NATS")
    nkey_path: str = option("", "Path of a file with the seed of an nkey (SU…), for NATS")
    tls_ca_cert_path: str = option("", "Path of the CA certificate for NATS")
    tls_client_cert_path: str = option("", "Path of the client certificate for NATS")
    tls_client_key_path: str = option("", "Path of the client key for NATS")
    tls_handshake_first: bool = option(
        False, "Begin TLS before NATS says anything (handshake_first of the server)"
    )
    inbox_prefix: str = option(
        "_INBOX", "Beginning of the subjects on which NATS replies to this node", filled=True
    )
    jetstream_domain: str = option("", "Domain of JetStream")
    jetstream_api_prefix: str = option(
        "", "Beginning of the subjects of JetStream's API, if an account imports it ($JS.API)"
    )
    jetstream_replicas: int = option(
        0,
        "Replicas of the streams in JetStream (0: 3 in a cluster, 1 otherwise)",
        maximum=5,
    )
    jetstream_cluster: str = option("", "Cluster whose servers keep the streams in JetStream")
    jetstream_tags: tuple[str, ...] = option(
        (), "Tags of the servers that keep the streams in JetStream (server_tags)"
    )
    max_reconnect_attempts: int = option(
        5,
        "Accepted without effect: a lost connection is retried without end",
        flag=None,
        hidden=True,
    )


class EnatsOptions(Group, frozen=True, kw_only=True):
    """The embedded NATS server."""

    section = Section(EMBEDDED_NATS, flags="enats_", toml="embedded_nats.")

    enabled: bool = option(
        False, "Run an embedded NATS server as pub/sub between nodes", flag="embed_nats"
    )
    address: str = option(
        "nats://127.0.0.1:4222",
        "Address that NATS listens on (empty: a free local port, with a generated secret)",
        flag="enats_addr",
        toml="embedded_nats.service_addr",
        hidden=True,
    )
    cluster_address: str = option(
        "",
        "Address that the NATS cluster listens on",
        flag="enats_cluster",
        toml="embedded_nats.cluster_addr",
        hidden=True,
    )
    cluster_name: str = option("anycable-cluster", "Name of the NATS cluster", filled=True)
    routes: tuple[str, ...] = option(
        (), "Known addresses of the NATS cluster", flag="enats_cluster_routes"
    )
    gateway_address: str = option(
        "",
        "Address that the NATS gateway listens on",
        flag="enats_gateway",
        toml="embedded_nats.gateway_addr",
        hidden=True,
    )
    gateways: tuple[str, ...] = option(
        (),
        "Known gateways, separated by semicolons: name:address,address;name:address",
        separator=";",
    )
    gateway_advertise: str = option("", "Address at which others reach the NATS gateway")
    store_dir: str = option(
        "", "Directory of JetStream", toml="embedded_nats.jetstream_store_dir", hidden=True
    )
    server_name: str = option(
        "",
        "Unique name of the NATS server (empty: generated at each start)",
        toml="embedded_nats.name",
    )
    debug: bool = option(False, "Write debug logs of the NATS server", hidden=True)
    trace: bool = option(False, "Log the protocol messages of the NATS server", hidden=True)
    max_payload_bytes: int = option(0, "Maximum size of a NATS message, in bytes (0: 1 MB)")
    jetstream: bool = option(False, "Run JetStream in the NATS server", flag=None, hidden=True)
    jetstream_ready_timeout_s: int = option(
        30, "Time limit for JetStream to become ready, in seconds", flag=None, hidden=True
    )


class RpcOptions(Group, frozen=True, kw_only=True):
    """RPC to the application."""

    section = Section(RPC, flags="rpc_", toml="rpc.")

    host: str = option(
        "localhost:50051",
        "Address of the application: host:port, dns:///host:port, grpc-list://a:1,b:2 or an http(s) URL",
        brief="Address of the application (localhost:50051)",
        filled=True,
    )
    implementation: RpcImplementation = option(
        "",
        "Protocol of RPC (empty: by the scheme of rpc_host)",
        flag="rpc_impl",
        hidden=True,
    )
    concurrency: int = option(
        28,
        "Maximum number of concurrent calls; choose slightly less than the application's (0: adaptive)",
    )
    concurrency_initial: int = option(25, "Adaptive concurrency: initial value", minimum=1)
    concurrency_min: int = option(5, "Adaptive concurrency: minimum", minimum=1)
    concurrency_max: int = option(100, "Adaptive concurrency: maximum", minimum=1)
    enable_tls: bool = option(False, "Use TLS for gRPC", hidden=True)
    tls_verify: bool = option(True, "Verify the certificate of the application", hidden=True)
    tls_root_ca: str = option(
        "",
        "CA certificate for the application, a path or PEM text (empty: the system's); enables TLS",
        toml="rpc.tls_root_ca_path",
        toml_aliases=("rpc.tls_root_ca",),
        hidden=True,
    )
    max_recv_size_bytes: int = option(
        0,
        "Maximum size of a gRPC response, in bytes (0: 4 MB)",
        flag="rpc_max_call_recv_size",
        toml_aliases=("rpc.max_call_recv_size",),
        hidden=True,
    )
    max_send_size_bytes: int = option(
        0,
        "Maximum size of a gRPC request, in bytes (0: no limit)",
        flag="rpc_max_call_send_size",
        toml_aliases=("rpc.max_call_send_size",),
        hidden=True,
    )
    request_timeout_ms: int = option(
        0, "Time limit of one request, in milliseconds (0: none for gRPC, 3000 for HTTP)"
    )
    command_timeout_ms: int = option(
        3000, "Time limit of a call with all its retries, in milliseconds", hidden=True
    )
    proxy_headers: tuple[str, ...] = option(
        ("cookie",),
        "Request headers that are sent to the application",
        flag="headers",
        toml_aliases=("rpc.headers",),
    )
    proxy_cookies: tuple[str, ...] = option(
        (), "Cookies that are sent to the application (empty: all)", flag="proxy-cookies"
    )
    secret: str = option(
        "",
        "Key that is sent to the application in HTTP RPC (none: no key)",
        flag="http_rpc_secret",
        secret=True,
        reloadable=True,
    )
    http_request_timeout_ms: int = option(
        0,
        "Time limit of one HTTP RPC request, in milliseconds",
        flag="http_rpc_timeout",
        hidden=True,
        deprecated="rpc_request_timeout",
    )


class DisconnectorOptions(Group, frozen=True, kw_only=True):
    """Disconnect calls."""

    section = Section(DISCONNECTOR, flags="disconnect_", toml="disconnector.")

    mode: DisconnectMode = option(
        "auto",
        "When Disconnect is called; auto: for clients that the application admitted",
        toml="app.disconnect_mode",
        toml_aliases=("disconnector.mode",),
    )
    rate: int = option(100, "Maximum number of Disconnect calls per second", minimum=1, hidden=True)
    backlog: int = option(
        4096,
        "Maximum number of paced Disconnect calls that wait",
        flag="disconnect_backlog_size",
        toml_aliases=("disconnector.backlog_size",),
        hidden=True,
    )


class LogOptions(Group, frozen=True, kw_only=True):
    """Logging."""

    section = Section(LOG, flags="log_", toml="logging.")

    level: LogLevel = option("info", "Lowest level that is logged", reloadable=True)
    format: LogFormat = option("text", "Format of log lines")
    access: bool = option(
        True, "Log each request to the application of asgi, without its query", flag="access_log"
    )
    debug: bool = option(
        False,
        "Log everything (log_level=debug)",
        brief="Log everything",
        flag="debug",
        reloadable=True,
    )


class MetricsOptions(Group, frozen=True, kw_only=True):
    """Counters and gauges."""

    section = Section(METRICS, flags="metrics_", toml="metrics.")

    log: bool = option(False, "Log the metrics, at the level info")
    rotate_interval_s: int = option(
        15, "Interval at which metrics are logged and sent to StatsD, in seconds", minimum=1
    )
    log_filter: tuple[str, ...] = option((), "Metrics to log (empty: all)")
    http_path: str = option(
        "",
        "Path that serves the metrics (Prometheus)",
        flag="metrics_http",
        toml_aliases=("metrics.http",),
    )
    host: str = option("", "Address that serves the metrics (empty: the server's own)")
    port: int = option(
        0,
        "Port that serves the metrics (0: the server's own)",
        maximum=PORT_MAX,
    )
    tags: tuple[str, ...] = option((), "Tags added to every metric, as name:value", tags=True)
    memory: bool = option(
        False,
        "Add detailed memory metrics",
        flag=None,
        variables=("ANYCABLE_MEMORY_METRICS",),
        hidden=True,
    )


class StatsdOptions(Group, frozen=True, kw_only=True):
    """Metrics sent to StatsD."""

    section = Section(STATSD, flags="statsd_", toml="metrics.statsd.")

    host: str = option("", "Address of the StatsD server, as host:port (empty: none; port 8125)")
    prefix: str = option("anycable_go.", "Prefix of metric names")
    max_packet_size_bytes: int = option(
        1400, "Maximum size of a UDP packet, in bytes", minimum=1, maximum=65_507, hidden=True
    )
    tags_format: StatsdTagsFormat = option("datadog", "Format of tags; influx is influxdb")


class OtelOptions(Group, frozen=True, kw_only=True):
    """Tracing by OpenTelemetry. See docs/tracing.md."""

    section = Section(TRACING, flags="otel_", toml="otel.")

    enabled: bool = option(False, "Trace clients, calls and publications", flag="otel")
    exporter: OtelExporter = option(
        "otlp", "Where spans are sent: OTLP over HTTP, or the standard output"
    )
    endpoint: str = option(
        "",
        "URL of the collector (empty: OTEL_EXPORTER_OTLP_ENDPOINT, else http://localhost:4318)",
    )
    sample_ratio: str = option(
        "0.01",
        "Share of the traces that begin here, from 0 to 1; others follow their parent",
        required=True,
    )
    service_name: str = option("", "Name of the service (empty: OTEL_SERVICE_NAME, else catenary)")


class JwtOptions(Group, frozen=True, kw_only=True):
    """Authentication by JSON Web Tokens."""

    section = Section(JWT, flags="jwt_", toml="jwt.")

    secret: str = option(
        "",
        "Key that verifies tokens (empty: the application secret; none: no key)",
        secret=True,
        reloadable=True,
    )
    param: str = option(
        "jid",
        "Query parameter with the token; the header with the prefix x- works, too",
        filled=True,
    )
    enforce: bool = option(
        False,
        "Refuse clients without a token",
        flag="enforce_jwt",
        toml="jwt.force",
        toml_aliases=("jwt.enforce",),
    )
    public_key: str = option(
        "", "Public key that verifies tokens: PEM, or the path of a PEM file", reloadable=True
    )
    jwks_url: str = option("", "URL of the issuer's JSON Web Key Set")
    jwks_refresh_s: int = option(
        300,
        "Interval at which the key set is fetched, in seconds (at least 10); an unknown key triggers a fetch",
        minimum=10,
    )
    algorithms: tuple[JwtAlgorithm, ...] = option(
        (), "Accepted algorithms (empty: all that fit the given keys)"
    )
    issuer: str = option("", "Required issuer (iss) of tokens (empty: any)")
    audience: str = option("", "Required audience (aud) of tokens (empty: any)")
    resume_expired: bool = option(False, "Allow resuming a session after its token has expired")
    enforce_expiry: bool = option(
        False, "Disconnect clients whose token expires while they are connected (token_expired)"
    )
    expiry_grace_s: int = option(
        10,
        "With jwt_enforce_expiry, time from the expiry of a token to the disconnect, in which the client may connect again"
        " with a new token, in seconds",
    )


class StreamsOptions(Group, frozen=True, kw_only=True):
    """Streams that clients subscribe to without a call to the application."""

    section = Section(SIGNED_STREAMS, toml="streams.")

    secret: str = option(
        "",
        "Key that signs stream names (empty: the application secret; none: no key)",
        flag="streams_secret",
        secret=True,
        reloadable=True,
    )
    public: bool = option(
        False,
        "Allow subscribing to streams by their unsigned names",
        flag="public_streams",
        toml_aliases=("streams.public_streams",),
    )
    whisper: bool = option(
        False,
        "Allow whispers on signed streams (always allowed on public ones)",
        flag="streams_whisper",
    )
    presence: bool = option(
        True,
        "Allow presence on signed and public streams",
        flag="streams_presence",
    )
    rules: tuple[str, ...] = option(
        (),
        "Rules for streams by their names: [[streams.rules]] with match, history, presence, whisper, max_rate,"
        " slow_consumer (see docs/streams.md)",
        flag="streams_rules",
        tables=True,
        reloadable=True,
    )
    pubsub_channel: str = option(
        "$pubsub", "Name of the channel for these streams", flag=None, hidden=True
    )
    turbo: bool = option(
        False,
        "Serve Turbo Streams without calls to the application",
        flag="turbo_streams",
        toml_aliases=("streams.turbo_streams",),
    )
    turbo_secret: str = option(
        "",
        "Key that signs Turbo's stream names (empty: the one of signed streams)",
        flag="turbo_streams_secret",
        toml_aliases=("streams.turbo_streams_secret",),
        secret=True,
        reloadable=True,
    )
    cable_ready: bool = option(
        False,
        "Serve CableReady streams without calls to the application",
        flag_aliases=("cable_ready_streams",),
    )
    cable_ready_secret: str = option(
        "",
        "Key that signs CableReady's stream names (empty: the one of signed streams)",
        secret=True,
        reloadable=True,
    )


class SseOptions(Group, frozen=True, kw_only=True):
    """Server-sent events."""

    section = Section(SSE, flags="sse_", toml="sse.")

    enabled: bool = option(False, "Serve event streams", flag="sse")
    path: str = option("/events", "Path of event streams", filled=True)
    allowed_origins: tuple[str, ...] = option(
        (),
        "Origins whose pages may read event streams (empty: allowed_origins)",
        joined=True,
        reloadable=True,
    )


class DsOptions(Group, frozen=True, kw_only=True):
    """Durable Streams."""

    section = Section(DURABLE_STREAMS, flags="ds_", toml="ds.")

    enabled: bool = option(False, "Serve Durable Streams", flag="ds")
    path: str = option("/ds", "Prefix of the paths of durable streams", filled=True)
    skip_auth: bool = option(False, "Authorize the stream only, not the client")
    write: bool = option(False, "Let clients create, append to, close and delete streams")
    poll_interval_s: int = option(10, "Time limit of a poll, in seconds", minimum=1)
    sse_ttl_s: int = option(60, "Lifetime of an event stream, in seconds", minimum=1)


class PusherOptions(Group, frozen=True, kw_only=True):
    """Pusher's client protocol and its HTTP API."""

    section = Section(PUSHER, flags="pusher_", toml="pusher.")

    app_id: str = option("", "Pusher application id")
    app_key: str = option("", "Pusher application key")
    secret: str = option(
        "",
        "Pusher secret (empty: the application secret; none: no secret)",
        secret=True,
        reloadable=True,
    )
    api_port: int = option(0, "Port of the Pusher HTTP API (0: the server's own)", maximum=PORT_MAX)
    apps: tuple[str, ...] = option(
        (),
        "More Pusher applications: [[pusher.apps]] with id, key, secret (see docs/pusher.md)",
        tables=True,
        secret=True,
        reloadable=True,
    )
    activity_timeout_s: int = option(
        30, "Interval of pings to and from Pusher clients, in seconds", minimum=1
    )
    webhook_batch_interval_ms: int = option(
        100, "How long events are collected before a webhook is sent, in milliseconds"
    )
    webhook_timeout_s: int = option(
        5, "Time limit of an attempt to send a webhook, in seconds", minimum=1
    )
    webhook_retry_s: int = option(300, "How long a failed webhook is sent again, in seconds")
    pong_timeout_s: int = option(
        30, "Time limit for a Pusher client's answer to a ping, in seconds", minimum=1
    )


class ApiOptions(Group, frozen=True, kw_only=True):
    """The HTTP API."""

    section = Section(API, flags="api_", toml="api.")

    port: int = option(0, "Port of the API (0: the server's own)", maximum=PORT_MAX)
    path: str = option("/api", "Prefix of the API's paths", filled=True)
    secret: str = option("", "Key that API clients must send", secret=True, reloadable=True)
    host: str = option("", "Address of the API if it has a port of its own", flag=None, hidden=True)
    cors_headers: bool = option(
        False, "Allow API requests from pages (CORS)", flag=None, hidden=True
    )
    cors_hosts: tuple[str, ...] = option(
        (),
        "Origins whose pages may use the API",
        flag=None,
        joined=True,
        hidden=True,
        reloadable=True,
    )


class PollOptions(Group, frozen=True, kw_only=True):
    """Long polling."""

    section = Section(LONG_POLLING, flags="poll_", toml="poll.")

    enabled: bool = option(False, "Serve long polling", flag="poll")
    path: str = option("/lp", "Path of long polling", filled=True)
    interval_s: int = option(15, "Time limit of a poll, in seconds", minimum=1)
    flush_interval_ms: int = option(
        500,
        "How long messages are collected before a poll is answered, in milliseconds",
    )
    max_request_size_bytes: int = option(
        65536,
        "Maximum size of a request body, in bytes",
        variables=("ANYCABLE_POLL_MAX_REQEUEST_SIZE",),
    )
    keepalive_timeout_s: int = option(
        5, "Lifetime of a session without a poll, in seconds", minimum=1
    )


class GraphqlOptions(Group, frozen=True, kw_only=True):
    """Apollo GraphQL clients."""

    section = Section(GRAPHQL, flags="graphql_", toml="graphql.")

    path: str = option("", "Path for GraphQL clients (empty: GraphQL is off)")
    channel: str = option("GraphqlChannel", "Channel of the application that executes operations")
    action: str = option("execute", "Action that executes an operation")
    idle_timeout_s: int = option(2, "Time limit for connection_init, in seconds")


class OcppOptions(Group, frozen=True, kw_only=True):
    """Charging stations that speak OCPP."""

    section = Section(OCPP, flags="ocpp_", toml="ocpp.")

    path: str = option("", "Prefix of the paths of charging stations (empty: OCPP is off)")
    channel: str = option("OCPPChannel", "Channel class of the application")
    granular_actions: bool = option(
        True, "Call a separate action for each OCPP message (otherwise: receive)"
    )
    heartbeat_interval_s: int = option(
        30,
        "Interval of heartbeats and pings, in seconds",
        minimum=1,
        flag_aliases=("ocpp_hearbeat_interval",),
    )


class AdminOptions(Group, frozen=True, kw_only=True):
    """The admin console."""

    section = Section(ADMIN, flags="admin_", toml="admin.")

    enabled: bool = option(
        False, "Serve the console (default in public mode: true; else it needs a key)", flag="admin"
    )
    path: str = option("/_high_voltage_", "Path of the console", filled=True)
    port: int = option(0, "Port of the console (0: the server's own)", maximum=PORT_MAX)
    secret: str = option(
        "", "Key with which people log in to the console", secret=True, reloadable=True
    )


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One of each group. Only the assembly and the command line use it."""

    server: ServerOptions = ServerOptions()
    app: AppOptions = AppOptions()
    access: AccessOptions = AccessOptions()
    node: NodeOptions = NodeOptions()
    deployment: DeploymentOptions = DeploymentOptions()
    websocket: WebSocketOptions = WebSocketOptions()
    ping: PingOptions = PingOptions()
    limits: LimitOptions = LimitOptions()
    rpc: RpcOptions = RpcOptions()
    disconnector: DisconnectorOptions = DisconnectorOptions()
    broadcast: BroadcastOptions = BroadcastOptions()
    http_broadcast: HttpBroadcastOptions = HttpBroadcastOptions()
    redisx: RedisxOptions = RedisxOptions()
    pubsub: PubSubOptions = PubSubOptions()
    broker: BrokerOptions = BrokerOptions()
    redis: RedisOptions = RedisOptions()
    nats: NatsOptions = NatsOptions()
    enats: EnatsOptions = EnatsOptions()
    streams: StreamsOptions = StreamsOptions()
    jwt: JwtOptions = JwtOptions()
    sse: SseOptions = SseOptions()
    ds: DsOptions = DsOptions()
    api: ApiOptions = ApiOptions()
    pusher: PusherOptions = PusherOptions()
    poll: PollOptions = PollOptions()
    graphql: GraphqlOptions = GraphqlOptions()
    ocpp: OcppOptions = OcppOptions()
    admin: AdminOptions = AdminOptions()
    log: LogOptions = LogOptions()
    metrics: MetricsOptions = MetricsOptions()
    statsd: StatsdOptions = StatsdOptions()
    otel: OtelOptions = OtelOptions()


class OptionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table: an option and the attribute that holds its value."""

    room: str
    name: str
    kind: Kind
    choices: tuple[str, ...]
    default: Value
    option: Option

    @property
    def place(self) -> str:
        """Its attribute in :class:`Options`, such as ``server.port``."""
        return f"{self.room}.{self.name}"

    def value_in(self, options: Options) -> Value:
        """Its value in these options."""
        value: Value = getattr(getattr(options, self.room), self.name)
        return value


class Shorthand(msgspec.Struct, frozen=True, kw_only=True):
    """A flag that sets other options instead of having a value; most are deprecated names.

    ``sets`` are pairs of a place and its value (None: the value of the flag). A bool flag acts if it is true.
    ``wins``: overrides a value given for the place itself. ``deprecated``: the replacement. ``advice`` ends the error
    of one that is not built.
    """

    group: str
    flag: str
    kind: Kind
    help: str
    sets: tuple[tuple[str, Value | None], ...] = ()
    wins: bool = False
    secret: bool = False
    hidden: bool = True
    built: bool = True
    advice: str = "leave it out"
    deprecated: str | None = None

    @property
    def place(self) -> str:
        """Its key among the places, which no option has."""
        return f"--{self.flag}"


SHORTHANDS: Final = (
    Shorthand(
        group=RPC,
        flag="norpc",
        kind="bool",
        help="Serve without an application",
        sets=(("rpc.implementation", "none"),),
        wins=True,
        hidden=False,
    ),
    Shorthand(
        group=DISCONNECTOR,
        flag="disable_disconnect",
        kind="bool",
        help="Make no Disconnect calls",
        sets=(("disconnector.mode", "never"),),
        wins=True,
        deprecated="disconnect_mode=never",
    ),
    Shorthand(
        group=DISCONNECTOR,
        flag="disconnect_timeout",
        kind="int",
        help="Accepted without effect",
        deprecated="shutdown_timeout",
    ),
    Shorthand(
        group=METRICS,
        flag="metrics_log_interval",
        kind="int",
        help="Interval at which metrics are logged, in seconds",
        sets=(("metrics.rotate_interval_s", None),),
        deprecated="metrics_rotate_interval",
    ),
    Shorthand(
        group=METRICS,
        flag="metrics_log_formatter",
        kind="str",
        help="Path of a Ruby script that formats logged metrics",
        built=False,
        advice="read the metrics from the lines of log_format=json, which need no formatter",
    ),
    Shorthand(
        group=JWT,
        flag="jwt_id_key",
        kind="str",
        help="Key that verifies tokens",
        sets=(("jwt.secret", None),),
        secret=True,
        deprecated="jwt_secret",
    ),
    Shorthand(
        group=JWT,
        flag="jwt_id_param",
        kind="str",
        help="Query parameter with the token",
        sets=(("jwt.param", None),),
        deprecated="jwt_param",
    ),
    Shorthand(
        group=JWT,
        flag="jwt_id_enforce",
        kind="bool",
        help="Refuse clients without a token",
        sets=(("jwt.enforce", True),),
        deprecated="enforce_jwt",
    ),
    Shorthand(
        group=SIGNED_STREAMS,
        flag="turbo_rails_key",
        kind="str",
        help="Key that signs Turbo's stream names; enables Turbo Streams",
        sets=(("streams.turbo_secret", None), ("streams.turbo", True)),
        wins=True,
        secret=True,
        deprecated="turbo_streams_secret",
    ),
    Shorthand(
        group=SIGNED_STREAMS,
        flag="turbo_rails_cleartext",
        kind="bool",
        help="Accepted without effect",
        deprecated="public_streams",
    ),
    Shorthand(
        group=SIGNED_STREAMS,
        flag="cable_ready_key",
        kind="str",
        help="Key that signs CableReady's stream names; enables CableReady streams",
        sets=(("streams.cable_ready_secret", None), ("streams.cable_ready", True)),
        wins=True,
        secret=True,
        deprecated="cable_ready_secret",
    ),
    Shorthand(
        group=SIGNED_STREAMS,
        flag="cable_ready_cleartext",
        kind="bool",
        help="Accepted without effect",
        deprecated="public_streams",
    ),
)


def _entries() -> tuple[OptionRow, ...]:
    """Builds the table from the fields of the groups."""
    rows: list[OptionRow] = []
    for room, group in Options.__annotations__.items():
        defaults = group()
        for name, stated in group.options.items():
            declared, row = group.__annotations__[name], group.section.complete(name, stated)
            rows.append(
                OptionRow(
                    room=room,
                    name=name,
                    kind=_kind(declared, row),
                    choices=_choices(declared),
                    default=getattr(defaults, name),
                    option=row,
                )
            )
    return tuple(rows)


def _kind(declared: object, row: Option) -> Kind:
    if get_origin(declared) is tuple:
        return "tags" if row.tags else "tables" if row.tables else "list"
    if declared is int:
        return "int"
    return "bool" if declared is bool else "str"


def _choices(declared: object) -> tuple[str, ...]:
    """The values of a Literal, or of a tuple of them; empty if every value is allowed."""
    if get_origin(declared) is tuple:
        return _choices(get_args(declared)[0])
    return get_args(declared) if get_origin(declared) is Literal else ()


TABLE: Final = _entries()
