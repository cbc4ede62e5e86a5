"""Every option of the server, once: name, type, default, flag, variable, TOML key, meaning.

The classes are the rooms' groups: a room gets its own, ``Options`` holds one of each and stays in
the assembly. An annotation carries what the sources and the documentation need to know.
Follows anycable-go 1.6.16: its flags, its ``ANYCABLE_*`` variables, its ``anycable.toml``.
Knows: facts. Does not know: where a value comes from; see ``load``.
"""

from typing import Annotated, Final, Literal, get_args, get_origin

import msgspec

Value = int | bool | str | tuple[str, ...]
Kind = Literal["int", "bool", "str", "list", "tags"]

PORT_MAX: Final = 65535
INT_MAX: Final = 2**63 - 1

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
StatsdTagsFormat = Literal["datadog", "influxdb", "graphite"]


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """What the sources and the documentation know about one option. See :func:`option`."""

    group: str
    flag: str | None
    help: str
    toml: str
    variables: tuple[str, ...]
    flag_aliases: tuple[str, ...]
    toml_aliases: tuple[str, ...]
    minimum: int
    maximum: int
    separator: str
    joined: bool
    tags: bool
    secret: bool
    hidden: bool
    required: bool
    built: bool
    later: tuple[str | int, ...]
    harmless: tuple[str | int, ...]
    same_as: str | None
    deprecated: str | None


def option(
    group: str,
    flag: str | None,
    help: str,
    *,
    toml: str,
    variables: tuple[str, ...] = (),
    flag_aliases: tuple[str, ...] = (),
    toml_aliases: tuple[str, ...] = (),
    minimum: int = 0,
    maximum: int = INT_MAX,
    separator: str = ",",
    joined: bool = False,
    tags: bool = False,
    secret: bool = False,
    hidden: bool = False,
    required: bool = False,
    built: bool = True,
    later: tuple[str | int, ...] = (),
    harmless: tuple[str | int, ...] = (),
    same_as: str | None = None,
    deprecated: str | None = None,
) -> Option:
    """Declares an option; the annotated attribute gives its name, type and default.

    ``flag`` None: no flag and no variable of its own. ``variables`` follow the one that the flag
    gives (``--max-conn``: ``ANYCABLE_MAX_CONN``); ``flag_aliases`` give theirs, too. ``toml`` is
    the dotted key. ``minimum`` and ``maximum`` bound an int. A list is split at ``separator``;
    ``joined`` ones are printed to TOML as one string, ``tags`` as a table. ``secret``: never shown
    in an error. ``hidden``: left out of ``-h``. ``required``: an empty value means the default.
    ``deprecated``: what to use instead.

    ``built`` False: the feature is not in this version, and only the default, the ``harmless``
    values and that of the option ``same_as`` are accepted; ``later`` names single values of which
    the same is true.
    """
    own = () if flag is None else (variable_of(flag),)
    return Option(
        group=group,
        flag=flag,
        help=help,
        toml=toml,
        variables=(*own, *map(variable_of, flag_aliases), *variables),
        flag_aliases=flag_aliases,
        toml_aliases=toml_aliases,
        minimum=minimum,
        maximum=maximum,
        separator=separator,
        joined=joined,
        tags=tags,
        secret=secret,
        hidden=hidden,
        required=required,
        built=built,
        later=later,
        harmless=harmless,
        same_as=same_as,
        deprecated=deprecated,
    )


def variable_of(flag: str) -> str:
    """The environment variable of a flag: ``max-conn`` → ``ANYCABLE_MAX_CONN``."""
    return "ANYCABLE_" + flag.upper().replace("-", "_")


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server listens and whom it lets in."""

    host: Annotated[str, option(SERVER, "host", "Address to listen on", toml="server.host")] = (
        "localhost"
    )
    port: Annotated[
        int,
        option(
            SERVER,
            "port",
            "Port to listen on",
            toml="server.port",
            variables=("PORT",),
            maximum=PORT_MAX,
        ),
    ] = 8080
    max_conn: Annotated[
        int,
        option(
            SERVER,
            "max-conn",
            "How many clients may be connected at once (0: no limit)",
            toml="server.max_conn",
        ),
    ] = 0
    health_path: Annotated[
        str,
        option(
            SERVER,
            "health-path",
            "Path that answers health checks",
            toml="server.health_path",
        ),
    ] = "/health"
    ready_path: Annotated[
        str,
        option(
            SERVER,
            "ready-path",
            "Path that answers whether this node may be sent clients",
            toml="server.ready_path",
        ),
    ] = "/ready"
    workers: Annotated[
        int,
        option(
            SERVER,
            "workers",
            "How many processes share the ports, each a node with its own limits",
            toml="server.workers",
            minimum=1,
        ),
    ] = 1
    asgi: Annotated[
        str,
        option(
            SERVER,
            "asgi",
            "ASGI application (module:name) that answers on the server's port what is not ours",
            toml="server.asgi",
        ),
    ] = ""
    allowed_origins: Annotated[
        tuple[str, ...],
        option(
            SERVER,
            "allowed_origins",
            "Origins that may connect, such as www.example.com or *.example.io (empty: all)",
            toml="server.allowed_origins",
            joined=True,
        ),
    ] = ()
    ssl_cert: Annotated[
        str,
        option(SSL, "ssl_cert", "Path of the TLS certificate (PEM)", toml="server.ssl.cert_path"),
    ] = ""
    ssl_key: Annotated[
        str,
        option(SSL, "ssl_key", "Path of the TLS private key (PEM)", toml="server.ssl.key_path"),
    ] = ""


class AppOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The application's code, where the server runs it itself."""

    workers: Annotated[
        int,
        option(
            SERVER,
            "app_workers",
            "How many processes beside this one run the code of catenary app:cable, replaced on SIGHUP"
            " (0: it runs in this process)",
            toml="app.workers",
        ),
    ] = 0
    reload: Annotated[
        bool,
        option(
            SERVER,
            "reload",
            "Load the code of catenary app:cable anew when a Python file here changes (in one app"
            " worker unless app_workers says otherwise)",
            toml="app.reload",
        ),
    ] = False


class AccessOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Secrets and switches that concern several rooms; ``effective`` spreads them."""

    secret: Annotated[
        str,
        option(
            SERVER,
            "secret",
            "Application secret: the keys of broadcasting, HTTP RPC, signed streams, JWT and the"
            " API come from it unless they are given (none: no secret)",
            toml="secret",
            secret=True,
        ),
    ] = ""
    broadcast_key: Annotated[
        str,
        option(
            SERVER,
            "broadcast_key",
            "Key that publishers over HTTP must show, but for --public (none: no key)",
            toml="broadcast_key",
            secret=True,
        ),
    ] = ""
    public: Annotated[
        bool,
        option(
            SERVER,
            "public",
            "[UNSAFE] Let everybody connect, subscribe to any stream and publish",
            toml="public",
        ),
    ] = False
    noauth: Annotated[
        bool,
        option(
            SERVER,
            "noauth",
            "[UNSAFE] Let everybody connect without asking the application",
            toml="noauth",
        ),
    ] = False


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The node itself: its name, its end, its pools."""

    node_id: Annotated[
        str,
        option(
            SERVER,
            "node_id",
            "Name of this node in logs and between nodes (empty: made at each start)",
            toml="node_id",
            hidden=True,
        ),
    ] = ""
    shutdown_timeout_s: Annotated[
        int,
        option(
            SERVER,
            "shutdown_timeout",
            "How long a graceful shutdown may take, in seconds",
            toml="app.shutdown_timeout",
        ),
    ] = 30
    shutdown_delay_s: Annotated[
        int,
        option(
            SERVER,
            "shutdown_delay",
            "How long to go on as before after the signal to shut down, in seconds",
            toml="app.shutdown_delay",
        ),
    ] = 0
    shutdown_slowdrain: Annotated[
        bool,
        option(
            SERVER,
            "shutdown_slowdrain",
            "Spread the disconnects of a shutdown over its timeout",
            toml="app.shutdown_slowdrain",
        ),
    ] = False
    shutdown_pool_size: Annotated[
        int,
        option(
            SERVER,
            "shutdown_pool_size",
            "Accepted without effect: there is no pool of goroutines to size",
            toml="app.shutdown_disconnect_gopool_size",
            toml_aliases=("app.shutdown_pool_size",),
            hidden=True,
        ),
    ] = 16
    hub_pool_size: Annotated[
        int,
        option(
            BROADCASTING,
            "hub_gopool_size",
            "Accepted without effect: there is no pool of goroutines to size",
            toml="app.broadcast_gopool_size",
            toml_aliases=("app.hub_gopool_size",),
            hidden=True,
        ),
    ] = 16
    stats_refresh_interval_s: Annotated[
        int,
        option(
            METRICS,
            "stats_refresh_interval",
            "How often to refresh the gauges of the server, in seconds",
            toml="app.stats_refresh_interval",
        ),
    ] = 5


class DeploymentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The place where the server runs."""

    presets: Annotated[
        tuple[Preset, ...],
        option(
            DEPLOYMENT,
            "presets",
            "Defaults of a place: fly, heroku, broker, none (empty: found from the environment)",
            toml="presets",
        ),
    ] = ()
    disable_telemetry: Annotated[
        bool,
        option(
            DEPLOYMENT,
            None,
            "Accepted without effect: no telemetry is ever sent",
            toml="disable_telemetry",
            variables=("ANYCABLE_DISABLE_TELEMETRY",),
            hidden=True,
        ),
    ] = False


class WebSocketOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The cable's WebSocket endpoint."""

    paths: Annotated[
        tuple[str, ...],
        option(
            SERVER,
            "path",
            "Paths of the cable; a * at the end and {placeholders} are allowed",
            toml="ws.paths",
            toml_aliases=("ws.path",),
            required=True,
        ),
    ] = ("/cable",)
    max_message_size_bytes: Annotated[
        int,
        option(
            WEBSOCKETS,
            "max_message_size",
            "Longest message taken from a client, in bytes",
            toml="ws.max_message_size",
            minimum=1,
            hidden=True,
        ),
    ] = 65536
    max_pending_size_bytes: Annotated[
        int,
        option(
            WEBSOCKETS,
            "ws_max_pending_size",
            "How much may wait to be written to a client before it is disconnected as too slow,"
            " in bytes (0: no limit)",
            toml="ws.max_pending_size",
        ),
    ] = 1048576
    write_timeout_s: Annotated[
        int,
        option(
            WEBSOCKETS,
            "ws_write_timeout",
            "How long a client may take to answer a close frame before it is cut off, in seconds",
            toml="ws.write_timeout",
        ),
    ] = 2
    read_buffer_size_bytes: Annotated[
        int,
        option(
            WEBSOCKETS,
            "read_buffer_size",
            "Accepted without effect: connections have no read buffer of their own (bytes)",
            toml="ws.read_buffer_size",
            hidden=True,
        ),
    ] = 1024
    write_buffer_size_bytes: Annotated[
        int,
        option(
            WEBSOCKETS,
            "write_buffer_size",
            "Accepted without effect: connections have no write buffer of their own (bytes)",
            toml="ws.write_buffer_size",
            hidden=True,
        ),
    ] = 1024
    enable_compression: Annotated[
        bool,
        option(
            WEBSOCKETS,
            "enable_ws_compression",
            "Compress messages (permessage-deflate) for clients that offer it",
            toml="ws.enable_compression",
            toml_aliases=("ws.enable_ws_compression",),
            hidden=True,
        ),
    ] = False
    netpoll: Annotated[
        bool,
        option(
            WEBSOCKETS,
            "netpoll_enabled",
            "Accepted without effect: sockets are always polled (epoll, kqueue)",
            toml="ws.netpoll_enabled",
            hidden=True,
        ),
    ] = True


class PingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Heartbeats."""

    interval_s: Annotated[
        int,
        option(
            PING,
            "ping_interval",
            "How often clients get a ping, in seconds (0: never; a client may ask for another"
            " with ?pi=)",
            toml="app.ping_interval",
        ),
    ] = 3
    timestamp_precision: Annotated[
        TimestampPrecision,
        option(
            PING,
            "ping_timestamp_precision",
            "Unit of the timestamp in a ping (a client may ask for another with ?ptp=)",
            toml="app.ping_timestamp_precision",
            hidden=True,
        ),
    ] = "s"
    pong_timeout_s: Annotated[
        int,
        option(
            PING,
            "pong_timeout",
            "How long to wait for a pong before the client is disconnected, in seconds"
            " (0: no pongs are asked for)",
            toml="app.pong_timeout",
        ),
    ] = 0
    native: Annotated[
        bool,
        option(
            PING,
            "enable_native_pings",
            "Send the transport's own pings (WebSocket ping frames) besides those of the protocol",
            toml="app.enable_native_ping",
            toml_aliases=("app.enable_native_pings",),
        ),
    ] = False


class LimitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What clients may cost, so that none harms the others. See docs/limits.md."""

    max_header_size_bytes: Annotated[
        int,
        option(
            LIMITS,
            "max_header_size",
            "Longest head of a request that is read, in bytes",
            toml="limits.max_header_size",
            minimum=1024,
        ),
    ] = 65536
    max_headers: Annotated[
        int,
        option(
            LIMITS,
            "max_headers",
            "How many header lines a handshake may have",
            toml="limits.max_headers",
            minimum=16,
        ),
    ] = 128
    handshake_timeout_s: Annotated[
        int,
        option(
            LIMITS,
            "handshake_timeout",
            "How long a client may take to ask for something after it connected, in seconds",
            toml="limits.handshake_timeout",
            minimum=1,
        ),
    ] = 5
    max_waiting_handshakes: Annotated[
        int,
        option(
            LIMITS,
            "max_waiting_handshakes",
            "How many handshakes may wait for their turn before more are refused",
            toml="limits.max_waiting_handshakes",
            minimum=1,
        ),
    ] = 4096
    message_timeout_s: Annotated[
        int,
        option(
            LIMITS,
            "ws_message_timeout",
            "How long a message that has begun may take to be complete, in seconds (0: no limit)",
            toml="limits.message_timeout",
        ),
    ] = 30
    max_message_rate: Annotated[
        int,
        option(
            LIMITS,
            "ws_max_message_rate",
            "How many messages a second are read from a client, pings included; what it says beyond"
            " waits (0: no limit)",
            toml="limits.max_message_rate",
        ),
    ] = 1000
    max_identifier_size: Annotated[
        int,
        option(
            LIMITS,
            "max_identifier_size",
            "Longest identifier of a subscription, in characters (0: no limit)",
            toml="limits.max_identifier_size",
        ),
    ] = 8192
    max_subscriptions: Annotated[
        int,
        option(
            LIMITS,
            "max_subscriptions",
            "How many subscriptions a client may have (0: no limit)",
            toml="limits.max_subscriptions",
        ),
    ] = 1000
    tcp_timeout_s: Annotated[
        int,
        option(
            LIMITS,
            "tcp_timeout",
            "How long the other end of a connection may leave TCP unanswered before it counts as dead,"
            " in seconds (0: as the system has it)",
            toml="limits.tcp_timeout",
        ),
    ] = 60


class BroadcastOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where publications of the application come from."""

    adapters: Annotated[
        tuple[BroadcastAdapter, ...],
        option(
            BROADCASTING,
            "broadcast_adapter",
            "Where publications come from; several may be given",
            toml="broadcast_adapters",
            toml_aliases=("broadcast_adapter",),
            required=True,
        ),
    ] = ("http", "redis")
    redis_channel: Annotated[
        str,
        option(
            BROADCASTING,
            "redis_channel",
            "Redis channel that carries publications",
            toml="redis_pubsub_broadcast.channel",
        ),
    ] = "__anycable__"
    nats_channel: Annotated[
        str,
        option(
            BROADCASTING,
            "nats_channel",
            "NATS subject that carries publications",
            toml="nats_broadcast.channel",
        ),
    ] = "__anycable__"


class HttpBroadcastOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Publications over HTTP."""

    port: Annotated[
        int,
        option(
            HTTP_BROADCAST,
            "http_broadcast_port",
            "Port that takes publications (0: the server's own where a key is needed, else 8090)",
            toml="http_broadcast.port",
            maximum=PORT_MAX,
        ),
    ] = 0
    path: Annotated[
        str,
        option(
            HTTP_BROADCAST,
            "http_broadcast_path",
            "Path that takes publications",
            toml="http_broadcast.path",
        ),
    ] = "/_broadcast"
    secret: Annotated[
        str,
        option(
            HTTP_BROADCAST,
            "http_broadcast_secret",
            "Key that publishers over HTTP must show",
            toml="http_broadcast.secret",
            secret=True,
            hidden=True,
            deprecated="broadcast_key",
        ),
    ] = ""
    cors_headers: Annotated[
        bool,
        option(
            HTTP_BROADCAST,
            "http_broadcast_cors",
            "Let pages of allowed origins publish (CORS)",
            toml="http_broadcast.cors_headers",
            hidden=True,
        ),
    ] = False
    cors_hosts: Annotated[
        tuple[str, ...],
        option(
            HTTP_BROADCAST,
            None,
            "Origins that may publish from a page (empty: those of allowed_origins)",
            toml="http_broadcast.cors_hosts",
            joined=True,
            hidden=True,
        ),
    ] = ()


class RedisxOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Publications from a Redis stream, each taken by one node."""

    stream: Annotated[
        str,
        option(
            REDIS_X_BROADCAST,
            "redisx_stream",
            "Redis stream that carries publications",
            toml="redis_stream_broadcast.stream",
        ),
    ] = "__anycable__"
    consumer_group: Annotated[
        str,
        option(
            REDIS_X_BROADCAST,
            "redisx_group",
            "Consumer group of the nodes",
            toml="redis_stream_broadcast.group",
            hidden=True,
        ),
    ] = "bx"
    read_block_ms: Annotated[
        int,
        option(
            REDIS_X_BROADCAST,
            "redisx_read_block_milliseconds",
            "How long one read of the stream may wait, in milliseconds",
            toml="redis_stream_broadcast.stream_read_block_milliseconds",
            minimum=1,
            hidden=True,
        ),
    ] = 2000


class PubSubOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What carries publications between nodes."""

    adapter: Annotated[
        PubSubAdapter,
        option(
            BROADCASTING,
            "pubsub",
            "What carries publications between nodes",
            toml="pubsub_adapter",
            toml_aliases=("pubsub",),
        ),
    ] = ""
    redis_channel: Annotated[
        str,
        option(
            BROADCASTING,
            None,
            "Redis channel between nodes",
            toml="redis_pubsub.channel",
            hidden=True,
        ),
    ] = "__anycable_internal__"
    nats_channel: Annotated[
        str,
        option(
            BROADCASTING,
            None,
            "NATS subject between nodes",
            toml="nats_pubsub.channel",
            hidden=True,
        ),
    ] = "__anycable_internal__"


class BrokerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of streams and sessions."""

    adapter: Annotated[
        BrokerAdapter,
        option(
            BROADCASTING,
            "broker",
            "What keeps the history of streams, sessions and presence",
            toml="broker.adapter",
        ),
    ] = ""
    history_ttl_s: Annotated[
        int,
        option(
            BROKER,
            "history_ttl",
            "How long the history of a stream is kept, in seconds",
            toml="broker.history_ttl",
        ),
    ] = 300
    history_limit: Annotated[
        int,
        option(
            BROKER,
            "history_limit",
            "How many messages the history of a stream keeps",
            toml="broker.history_limit",
        ),
    ] = 100
    sessions_ttl_s: Annotated[
        int,
        option(
            BROKER,
            "sessions_ttl",
            "How long a lost session can be resumed, in seconds",
            toml="broker.sessions_ttl",
        ),
    ] = 300
    restored_action: Annotated[
        str,
        option(
            BROKER,
            "restored_action",
            "Action to perform on every subscription of a session that was resumed (empty: none)",
            toml="broker.restored_action",
        ),
    ] = ""
    presence_ttl_s: Annotated[
        int,
        option(
            BROKER,
            "presence_ttl",
            "How long a lost session stays present, in seconds",
            toml="broker.presence_ttl",
        ),
    ] = 15


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The way to Redis."""

    url: Annotated[
        str,
        option(
            REDIS,
            "redis_url",
            "URL of Redis; with sentinels its host is the name of the master",
            toml="redis.url",
            variables=("REDIS_URL",),
            secret=True,
        ),
    ] = "redis://localhost:6379"
    sentinels: Annotated[
        tuple[str, ...],
        option(
            REDIS,
            "redis_sentinels",
            "Redis sentinels: host:port or :password@host:port",
            toml="redis.sentinels",
            joined=True,
            secret=True,
        ),
    ] = ()
    sentinel_discovery_interval_s: Annotated[
        int,
        option(
            REDIS,
            "redis_sentinel_discovery_interval",
            "Accepted without effect: sentinels are asked at each connect (seconds)",
            toml="redis.sentinel_discovery_interval",
            hidden=True,
        ),
    ] = 30
    keepalive_interval_s: Annotated[
        int,
        option(
            REDIS,
            "redis_keepalive_interval",
            "How often to find out whether a quiet connection is alive, in seconds",
            toml="redis.keepalive_ping_interval",
            toml_aliases=("redis.keepalive_interval",),
            hidden=True,
        ),
    ] = 30
    tls_verify: Annotated[
        bool,
        option(
            REDIS,
            "redis_tls_verify",
            "Check the certificate of Redis (rediss:// URLs)",
            toml="redis.tls_verify",
            hidden=True,
        ),
    ] = False
    tls_ca_cert_path: Annotated[
        str,
        option(
            REDIS,
            "redis_tls_ca_cert_path",
            "Path of the CA certificate that signs the one of Redis",
            toml="redis.tls_ca_cert_path",
        ),
    ] = ""
    tls_client_cert_path: Annotated[
        str,
        option(
            REDIS,
            "redis_tls_client_cert_path",
            "Path of the certificate shown to Redis",
            toml="redis.tls_client_cert_path",
        ),
    ] = ""
    tls_client_key_path: Annotated[
        str,
        option(
            REDIS,
            "redis_tls_client_key_path",
            "Path of the key of the certificate shown to Redis",
            toml="redis.tls_client_key_path",
        ),
    ] = ""
    max_reconnect_attempts: Annotated[
        int,
        option(
            REDIS,
            None,
            "Accepted without effect: a lost connection is tried again until it is back",
            toml="redis.max_reconnect_attempts",
            hidden=True,
        ),
    ] = 5
    disable_cache: Annotated[
        bool,
        option(
            REDIS,
            "redis_disable_cache",
            "Accepted without effect: client-side caching is never used",
            toml="redis.disable_cache",
            hidden=True,
        ),
    ] = False


class NatsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The way to NATS."""

    servers: Annotated[
        tuple[str, ...],
        option(
            NATS,
            "nats_servers",
            "URLs of NATS servers",
            toml="nats.servers",
            joined=True,
            secret=True,
        ),
    ] = ("nats://127.0.0.1:4222",)
    dont_randomize_servers: Annotated[
        bool,
        option(
            NATS,
            "nats_dont_randomize_servers",
            "Try the servers in the order given",
            toml="nats.dont_randomize_servers",
            hidden=True,
        ),
    ] = False
    max_reconnect_attempts: Annotated[
        int,
        option(
            NATS,
            None,
            "Accepted without effect: a lost connection is tried again for ever",
            toml="nats.max_reconnect_attempts",
            hidden=True,
        ),
    ] = 5


class EnatsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The embedded NATS server."""

    enabled: Annotated[
        bool,
        option(
            EMBEDDED_NATS,
            "embed_nats",
            "Run a NATS server inside and use it between nodes",
            toml="embedded_nats.enabled",
        ),
    ] = False
    address: Annotated[
        str,
        option(
            EMBEDDED_NATS,
            "enats_addr",
            "Address that NATS listens on (empty: a free port of this machine, with a secret)",
            toml="embedded_nats.service_addr",
            hidden=True,
        ),
    ] = "nats://127.0.0.1:4222"
    cluster_address: Annotated[
        str,
        option(
            EMBEDDED_NATS,
            "enats_cluster",
            "Address that the NATS cluster listens on",
            toml="embedded_nats.cluster_addr",
            hidden=True,
        ),
    ] = ""
    cluster_name: Annotated[
        str,
        option(
            EMBEDDED_NATS,
            "enats_cluster_name",
            "Name of the NATS cluster",
            toml="embedded_nats.cluster_name",
        ),
    ] = "anycable-cluster"
    routes: Annotated[
        tuple[str, ...],
        option(
            EMBEDDED_NATS,
            "enats_cluster_routes",
            "Known addresses of the NATS cluster",
            toml="embedded_nats.routes",
        ),
    ] = ()
    gateway_address: Annotated[
        str,
        option(
            EMBEDDED_NATS,
            "enats_gateway",
            "Address that the NATS gateway listens on",
            toml="embedded_nats.gateway_addr",
            hidden=True,
        ),
    ] = ""
    gateways: Annotated[
        tuple[str, ...],
        option(
            EMBEDDED_NATS,
            "enats_gateways",
            "Known gateways, split by semicolons: name:address,address;name:address",
            toml="embedded_nats.gateways",
            separator=";",
        ),
    ] = ()
    gateway_advertise: Annotated[
        str,
        option(
            EMBEDDED_NATS,
            "enats_gateway_advertise",
            "Address under which others reach the NATS gateway",
            toml="embedded_nats.gateway_advertise",
        ),
    ] = ""
    store_dir: Annotated[
        str,
        option(
            EMBEDDED_NATS,
            "enats_store_dir",
            "Directory of JetStream",
            toml="embedded_nats.jetstream_store_dir",
            hidden=True,
        ),
    ] = ""
    server_name: Annotated[
        str,
        option(
            EMBEDDED_NATS,
            "enats_server_name",
            "Unique name of the NATS server (empty: made at each start)",
            toml="embedded_nats.name",
        ),
    ] = ""
    debug: Annotated[
        bool,
        option(
            EMBEDDED_NATS,
            "enats_debug",
            "Log what the NATS server does",
            toml="embedded_nats.debug",
            hidden=True,
        ),
    ] = False
    trace: Annotated[
        bool,
        option(
            EMBEDDED_NATS,
            "enats_trace",
            "Log what the NATS server says and hears",
            toml="embedded_nats.trace",
            hidden=True,
        ),
    ] = False
    max_payload_bytes: Annotated[
        int,
        option(
            EMBEDDED_NATS,
            "enats_max_payload",
            "Longest NATS message, in bytes (0: 1 MB)",
            toml="embedded_nats.max_payload",
        ),
    ] = 0
    jetstream: Annotated[
        bool,
        option(
            EMBEDDED_NATS,
            None,
            "Run JetStream in the NATS server",
            toml="embedded_nats.jetstream",
            hidden=True,
        ),
    ] = False
    jetstream_ready_timeout_s: Annotated[
        int,
        option(
            EMBEDDED_NATS,
            None,
            "How long to wait for JetStream, in seconds",
            toml="embedded_nats.jetstream_ready_timeout",
            hidden=True,
        ),
    ] = 30


class RpcOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The application behind the server."""

    host: Annotated[
        str,
        option(
            RPC,
            "rpc_host",
            "The application: host:port, dns:///host:port, grpc-list://a:1,b:2 or an http(s) URL",
            toml="rpc.host",
        ),
    ] = "localhost:50051"
    implementation: Annotated[
        RpcImplementation,
        option(
            RPC,
            "rpc_impl",
            "How to speak to the application (empty: by the scheme of rpc_host)",
            toml="rpc.implementation",
            hidden=True,
        ),
    ] = ""
    concurrency: Annotated[
        int,
        option(
            RPC,
            "rpc_concurrency",
            "How many calls may be under way at once; slightly less than the application takes",
            toml="rpc.concurrency",
            later=(0,),
        ),
    ] = 28
    concurrency_initial: Annotated[
        int,
        option(
            RPC,
            "rpc_concurrency_initial",
            "Adaptive concurrency: where it starts",
            toml="rpc.concurrency_initial",
            minimum=1,
            built=False,
        ),
    ] = 25
    concurrency_min: Annotated[
        int,
        option(
            RPC,
            "rpc_concurrency_min",
            "Adaptive concurrency: its least",
            toml="rpc.concurrency_min",
            minimum=1,
            built=False,
        ),
    ] = 5
    concurrency_max: Annotated[
        int,
        option(
            RPC,
            "rpc_concurrency_max",
            "Adaptive concurrency: its most",
            toml="rpc.concurrency_max",
            minimum=1,
            built=False,
        ),
    ] = 100
    enable_tls: Annotated[
        bool,
        option(
            RPC,
            "rpc_enable_tls",
            "Use TLS for gRPC",
            toml="rpc.enable_tls",
            hidden=True,
        ),
    ] = False
    tls_verify: Annotated[
        bool,
        option(
            RPC,
            "rpc_tls_verify",
            "Check the certificate of the application",
            toml="rpc.tls_verify",
            hidden=True,
        ),
    ] = True
    tls_root_ca: Annotated[
        str,
        option(
            RPC,
            "rpc_tls_root_ca",
            "CA certificate of the application, a path or PEM text (empty: those of the system);"
            " turns TLS on",
            toml="rpc.tls_root_ca_path",
            toml_aliases=("rpc.tls_root_ca",),
            hidden=True,
        ),
    ] = ""
    max_recv_size_bytes: Annotated[
        int,
        option(
            RPC,
            "rpc_max_call_recv_size",
            "Longest answer of a gRPC call, in bytes (0: 4 MB)",
            toml="rpc.max_recv_size",
            toml_aliases=("rpc.max_call_recv_size",),
            hidden=True,
        ),
    ] = 0
    max_send_size_bytes: Annotated[
        int,
        option(
            RPC,
            "rpc_max_call_send_size",
            "Longest request of a gRPC call, in bytes (0: no limit)",
            toml="rpc.max_send_size",
            toml_aliases=("rpc.max_call_send_size",),
            hidden=True,
        ),
    ] = 0
    request_timeout_ms: Annotated[
        int,
        option(
            RPC,
            "rpc_request_timeout",
            "How long one request may take, in milliseconds (0: gRPC no limit, HTTP 3000)",
            toml="rpc.request_timeout",
        ),
    ] = 0
    command_timeout_ms: Annotated[
        int,
        option(
            RPC,
            "rpc_command_timeout",
            "How long a call may take with all its retries, in milliseconds",
            toml="rpc.command_timeout",
            hidden=True,
        ),
    ] = 3000
    proxy_headers: Annotated[
        tuple[str, ...],
        option(
            RPC,
            "headers",
            "Request headers that the application is told",
            toml="rpc.proxy_headers",
            toml_aliases=("rpc.headers",),
        ),
    ] = ("cookie",)
    proxy_cookies: Annotated[
        tuple[str, ...],
        option(
            RPC,
            "proxy-cookies",
            "Cookies that the application is told (empty: all)",
            toml="rpc.proxy_cookies",
        ),
    ] = ()
    secret: Annotated[
        str,
        option(
            RPC,
            "http_rpc_secret",
            "Key shown to the application in RPC over HTTP (none: no key)",
            toml="rpc.secret",
            secret=True,
        ),
    ] = ""
    http_request_timeout_ms: Annotated[
        int,
        option(
            RPC,
            "http_rpc_timeout",
            "How long one request of RPC over HTTP may take, in milliseconds",
            toml="rpc.http_request_timeout",
            hidden=True,
            deprecated="rpc_request_timeout",
        ),
    ] = 0


class DisconnectorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Disconnect calls."""

    mode: Annotated[
        DisconnectMode,
        option(
            DISCONNECTOR,
            "disconnect_mode",
            "When the application is told that a client left; auto: where it knew the client",
            toml="app.disconnect_mode",
            toml_aliases=("disconnector.mode",),
        ),
    ] = "auto"
    rate: Annotated[
        int,
        option(
            DISCONNECTOR,
            "disconnect_rate",
            "How many Disconnect calls are made in a second at most",
            toml="disconnector.rate",
            minimum=1,
            hidden=True,
        ),
    ] = 100
    backlog: Annotated[
        int,
        option(
            DISCONNECTOR,
            "disconnect_backlog_size",
            "How many Disconnect calls may wait",
            toml="disconnector.backlog",
            toml_aliases=("disconnector.backlog_size",),
            hidden=True,
        ),
    ] = 4096


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Logging."""

    level: Annotated[
        LogLevel,
        option(LOG, "log_level", "The least that is logged", toml="logging.level"),
    ] = "info"
    format: Annotated[
        LogFormat,
        option(LOG, "log_format", "How lines of the log are written", toml="logging.format"),
    ] = "text"
    debug: Annotated[
        bool,
        option(LOG, "debug", "Log everything (log_level=debug)", toml="logging.debug"),
    ] = False


class MetricsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Counters and gauges."""

    log: Annotated[
        bool,
        option(METRICS, "metrics_log", "Log the metrics", toml="metrics.log", built=False),
    ] = False
    rotate_interval_s: Annotated[
        int,
        option(
            METRICS,
            "metrics_rotate_interval",
            "How often metrics go to the log and to StatsD, in seconds",
            toml="metrics.rotate_interval",
            minimum=1,
            built=False,
        ),
    ] = 15
    log_filter: Annotated[
        tuple[str, ...],
        option(
            METRICS,
            "metrics_log_filter",
            "Which metrics are logged (empty: all)",
            toml="metrics.log_filter",
            built=False,
        ),
    ] = ()
    http_path: Annotated[
        str,
        option(
            METRICS,
            "metrics_http",
            "Path that serves the metrics (Prometheus)",
            toml="metrics.http_path",
            toml_aliases=("metrics.http",),
        ),
    ] = ""
    host: Annotated[
        str,
        option(
            METRICS,
            "metrics_host",
            "Address that serves the metrics (empty: the server's own)",
            toml="metrics.host",
        ),
    ] = ""
    port: Annotated[
        int,
        option(
            METRICS,
            "metrics_port",
            "Port that serves the metrics (0: the server's own)",
            toml="metrics.port",
            maximum=PORT_MAX,
            same_as="server.port",
        ),
    ] = 0
    tags: Annotated[
        tuple[str, ...],
        option(
            METRICS,
            "metrics_tags",
            "Tags added to every metric, as name:value",
            toml="metrics.tags",
            tags=True,
        ),
    ] = ()
    memory: Annotated[
        bool,
        option(
            METRICS,
            None,
            "Add detailed metrics of memory",
            toml="metrics.memory",
            variables=("ANYCABLE_MEMORY_METRICS",),
            hidden=True,
            built=False,
        ),
    ] = False


class StatsdOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics sent to StatsD."""

    host: Annotated[
        str,
        option(
            STATSD,
            "statsd_host",
            "StatsD server that gets the metrics, as host:port",
            toml="metrics.statsd.host",
            built=False,
        ),
    ] = ""
    prefix: Annotated[
        str,
        option(
            STATSD,
            "statsd_prefix",
            "What the names of metrics begin with",
            toml="metrics.statsd.prefix",
            built=False,
        ),
    ] = "anycable_go."
    max_packet_size_bytes: Annotated[
        int,
        option(
            STATSD,
            "statsd_max_packet_size",
            "Longest UDP packet, in bytes",
            toml="metrics.statsd.max_packet_size",
            minimum=1,
            hidden=True,
            built=False,
        ),
    ] = 1400
    tags_format: Annotated[
        StatsdTagsFormat,
        option(
            STATSD,
            "statsd_tags_format",
            "How tags are written",
            toml="metrics.statsd.tags_format",
            built=False,
        ),
    ] = "datadog"


class JwtOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Clients that show a JSON Web Token."""

    secret: Annotated[
        str,
        option(
            JWT,
            "jwt_secret",
            "Key that tokens are checked with (empty: the application secret; none: no key)",
            toml="jwt.secret",
            secret=True,
        ),
    ] = ""
    param: Annotated[
        str,
        option(
            JWT,
            "jwt_param",
            "Query parameter that carries the token; a header of that name with x- in front, too",
            toml="jwt.param",
        ),
    ] = "jid"
    enforce: Annotated[
        bool,
        option(
            JWT,
            "enforce_jwt",
            "Refuse clients without a token",
            toml="jwt.force",
            toml_aliases=("jwt.enforce",),
        ),
    ] = False
    public_key: Annotated[
        str,
        option(
            JWT,
            "jwt_public_key",
            "Public key that tokens are checked with: PEM, or the path of a PEM file",
            toml="jwt.public_key",
        ),
    ] = ""
    jwks_url: Annotated[
        str,
        option(
            JWT,
            "jwt_jwks_url",
            "URL of the JSON Web Key Set of the issuer of tokens",
            toml="jwt.jwks_url",
        ),
    ] = ""
    jwks_refresh_s: Annotated[
        int,
        option(
            JWT,
            "jwt_jwks_refresh",
            "How often the key set is fetched, in seconds (10 at least); unknown keys bring it forward",
            toml="jwt.jwks_refresh",
            minimum=10,
        ),
    ] = 300
    algorithms: Annotated[
        tuple[JwtAlgorithm, ...],
        option(
            JWT,
            "jwt_algorithms",
            "Algorithms that are accepted (empty: all that the given keys are good for)",
            toml="jwt.algorithms",
        ),
    ] = ()
    issuer: Annotated[
        str,
        option(
            JWT,
            "jwt_issuer",
            "Issuer (iss) that tokens must have (empty: any)",
            toml="jwt.issuer",
        ),
    ] = ""
    audience: Annotated[
        str,
        option(
            JWT,
            "jwt_audience",
            "Audience (aud) that tokens must be for (empty: any)",
            toml="jwt.audience",
        ),
    ] = ""


class StreamsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Streams that clients subscribe to without the application."""

    secret: Annotated[
        str,
        option(
            SIGNED_STREAMS,
            "streams_secret",
            "Key that stream names are signed with (empty: the application secret; none: no key)",
            toml="streams.secret",
            secret=True,
        ),
    ] = ""
    public: Annotated[
        bool,
        option(
            SIGNED_STREAMS,
            "public_streams",
            "Let clients subscribe to streams by their plain names",
            toml="streams.public",
            toml_aliases=("streams.public_streams",),
        ),
    ] = False
    whisper: Annotated[
        bool,
        option(
            SIGNED_STREAMS,
            "streams_whisper",
            "Let clients of signed streams whisper to each other (those of public streams may)",
            toml="streams.whisper",
        ),
    ] = False
    presence: Annotated[
        bool,
        option(
            SIGNED_STREAMS,
            "streams_presence",
            "Let clients of signed and public streams tell that they are present",
            toml="streams.presence",
        ),
    ] = True
    pubsub_channel: Annotated[
        str,
        option(
            SIGNED_STREAMS,
            None,
            "Name of the channel that gives these streams",
            toml="streams.pubsub_channel",
            hidden=True,
        ),
    ] = "$pubsub"
    turbo: Annotated[
        bool,
        option(
            SIGNED_STREAMS,
            "turbo_streams",
            "Serve Turbo Streams without the application",
            toml="streams.turbo",
            toml_aliases=("streams.turbo_streams",),
        ),
    ] = False
    turbo_secret: Annotated[
        str,
        option(
            SIGNED_STREAMS,
            "turbo_streams_secret",
            "Key of Turbo's stream names (empty: that of signed streams)",
            toml="streams.turbo_secret",
            toml_aliases=("streams.turbo_streams_secret",),
            secret=True,
        ),
    ] = ""
    cable_ready: Annotated[
        bool,
        option(
            SIGNED_STREAMS,
            "cable_ready",
            "Serve CableReady streams without the application",
            toml="streams.cable_ready",
            flag_aliases=("cable_ready_streams",),
        ),
    ] = False
    cable_ready_secret: Annotated[
        str,
        option(
            SIGNED_STREAMS,
            "cable_ready_secret",
            "Key of CableReady's stream names (empty: that of signed streams)",
            toml="streams.cable_ready_secret",
            secret=True,
        ),
    ] = ""


class SseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Server-sent events."""

    enabled: Annotated[
        bool, option(SSE, "sse", "Serve event streams", toml="sse.enabled", built=False)
    ] = False
    path: Annotated[
        str, option(SSE, "sse_path", "Path of event streams", toml="sse.path", built=False)
    ] = "/events"


class DsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Durable Streams."""

    enabled: Annotated[
        bool,
        option(DURABLE_STREAMS, "ds", "Serve Durable Streams", toml="ds.enabled", built=False),
    ] = False
    path: Annotated[
        str,
        option(DURABLE_STREAMS, "ds_path", "Path of Durable Streams", toml="ds.path", built=False),
    ] = "/ds"
    skip_auth: Annotated[
        bool,
        option(
            DURABLE_STREAMS,
            "ds_skip_auth",
            "Check the stream only, not the client",
            toml="ds.skip_auth",
            built=False,
        ),
    ] = False
    poll_interval_s: Annotated[
        int,
        option(
            DURABLE_STREAMS,
            "ds_poll_interval",
            "How long a poll may wait, in seconds",
            toml="ds.poll_interval",
            built=False,
        ),
    ] = 10
    sse_ttl_s: Annotated[
        int,
        option(
            DURABLE_STREAMS,
            "ds_sse_ttl",
            "How long an event stream may last, in seconds",
            toml="ds.sse_ttl",
            built=False,
        ),
    ] = 60


class PusherOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Clients and publishers that speak Pusher."""

    app_id: Annotated[
        str,
        option(PUSHER, "pusher_app_id", "Pusher application id", toml="pusher.app_id", built=False),
    ] = ""
    app_key: Annotated[
        str,
        option(
            PUSHER, "pusher_app_key", "Pusher application key", toml="pusher.app_key", built=False
        ),
    ] = ""
    secret: Annotated[
        str,
        option(
            PUSHER,
            "pusher_secret",
            "Pusher secret (empty: the application secret; none: no secret)",
            toml="pusher.secret",
            secret=True,
            built=False,
            harmless=("none",),
            same_as="access.secret",
        ),
    ] = ""
    api_port: Annotated[
        int,
        option(
            PUSHER,
            "pusher_api_port",
            "Port of the Pusher HTTP API (0: the server's own)",
            toml="pusher.api_port",
            maximum=PORT_MAX,
            built=False,
        ),
    ] = 0


class ApiOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP API."""

    port: Annotated[
        int,
        option(
            API,
            "api_port",
            "Port of the API (0: the server's own)",
            toml="api.port",
            maximum=PORT_MAX,
        ),
    ] = 0
    path: Annotated[
        str,
        option(API, "api_path", "What the paths of the API begin with", toml="api.path"),
    ] = "/api"
    secret: Annotated[
        str,
        option(
            API,
            "api_secret",
            "Key that callers of the API must show",
            toml="api.secret",
            secret=True,
        ),
    ] = ""
    host: Annotated[
        str,
        option(
            API,
            None,
            "Address of the API where it has its own port",
            toml="api.host",
            hidden=True,
        ),
    ] = ""
    cors_headers: Annotated[
        bool,
        option(
            API,
            None,
            "Let pages call the API (CORS)",
            toml="api.cors_headers",
            hidden=True,
        ),
    ] = False
    cors_hosts: Annotated[
        tuple[str, ...],
        option(
            API,
            None,
            "Origins that may call the API from a page",
            toml="api.cors_hosts",
            joined=True,
            hidden=True,
        ),
    ] = ()


class PollOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Long polling."""

    enabled: Annotated[
        bool, option(LONG_POLLING, "poll", "Serve long polling", toml="poll.enabled", built=False)
    ] = False
    path: Annotated[
        str,
        option(LONG_POLLING, "poll_path", "Path of long polling", toml="poll.path", built=False),
    ] = "/lp"
    interval_s: Annotated[
        int,
        option(
            LONG_POLLING,
            "poll_interval",
            "How long a poll may wait, in seconds",
            toml="poll.interval",
            built=False,
        ),
    ] = 15
    flush_interval_ms: Annotated[
        int,
        option(
            LONG_POLLING,
            "poll_flush_interval",
            "How long to gather messages before a poll is answered, in milliseconds",
            toml="poll.flush_interval",
            built=False,
        ),
    ] = 500
    max_request_size_bytes: Annotated[
        int,
        option(
            LONG_POLLING,
            "poll_max_request_size",
            "Longest request body, in bytes",
            toml="poll.max_request_size",
            # Documented with this spelling.
            variables=("ANYCABLE_POLL_MAX_REQEUEST_SIZE",),
            built=False,
        ),
    ] = 65536
    keepalive_timeout_s: Annotated[
        int,
        option(
            LONG_POLLING,
            "poll_keepalive_timeout",
            "How long a session lives without a poll, in seconds",
            toml="poll.keepalive_timeout",
            built=False,
        ),
    ] = 5


class GraphqlOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Apollo GraphQL clients."""

    path: Annotated[
        str,
        option(
            GRAPHQL,
            "graphql_path",
            "Path that takes GraphQL clients (empty: none)",
            toml="graphql.path",
            built=False,
        ),
    ] = ""
    channel: Annotated[
        str,
        option(
            GRAPHQL,
            "graphql_channel",
            "Channel class of the application",
            toml="graphql.channel",
            built=False,
        ),
    ] = "GraphqlChannel"
    action: Annotated[
        str,
        option(
            GRAPHQL,
            "graphql_action",
            "Action of that channel",
            toml="graphql.action",
            built=False,
        ),
    ] = "execute"
    idle_timeout_s: Annotated[
        int,
        option(
            GRAPHQL,
            "graphql_idle_timeout",
            "How long to wait for connection_init, in seconds",
            toml="graphql.idle_timeout",
            built=False,
        ),
    ] = 2


class OcppOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Charging stations that speak OCPP."""

    path: Annotated[
        str,
        option(
            OCPP,
            "ocpp_path",
            "What the paths of charging stations begin with (empty: none)",
            toml="ocpp.path",
            built=False,
        ),
    ] = ""
    channel: Annotated[
        str,
        option(
            OCPP,
            "ocpp_channel",
            "Channel class of the application",
            toml="ocpp.channel",
            built=False,
        ),
    ] = "OCPPChannel"
    granular_actions: Annotated[
        bool,
        option(
            OCPP,
            "ocpp_granular_actions",
            "Give each OCPP command its own action",
            toml="ocpp.granular_actions",
            built=False,
        ),
    ] = True
    heartbeat_interval_s: Annotated[
        int,
        option(
            OCPP,
            "ocpp_heartbeat_interval",
            "How often stations send a heartbeat, in seconds",
            toml="ocpp.heartbeat_interval",
            # The spelling that released servers take.
            flag_aliases=("ocpp_hearbeat_interval",),
            built=False,
        ),
    ] = 30


class AdminOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The console page."""

    enabled: Annotated[
        bool,
        option(ADMIN, "admin", "Serve the console", toml="admin.enabled", built=False),
    ] = False
    path: Annotated[
        str,
        option(ADMIN, "admin_path", "Path of the console", toml="admin.path", built=False),
    ] = "/_high_voltage_"
    port: Annotated[
        int,
        option(
            ADMIN,
            "admin_port",
            "Port of the console (0: the server's own)",
            toml="admin.port",
            maximum=PORT_MAX,
            built=False,
        ),
    ] = 0
    secret: Annotated[
        str,
        option(
            ADMIN,
            "admin_secret",
            "Key that actions of the console need",
            toml="admin.secret",
            secret=True,
            built=False,
        ),
    ] = ""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One of each group. Only the assembly and the command line hold it."""

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


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table: an option with the attribute that holds it."""

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
    """A flag that has no value of its own but sets others; most of them are old names.

    ``sets`` are pairs of a place and its value, None: the value given. A bool one acts where it is
    true. ``wins``: over a value that its place was given, too. ``deprecated``: what to use instead.
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
    deprecated: str | None = None

    @property
    def place(self) -> str:
        """What stands for it among the places."""
        return f"--{self.flag}"


SHORTHANDS: Final = (
    Shorthand(
        group=RPC,
        flag="norpc",
        kind="bool",
        help="Serve without an application behind",
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
        help="How often metrics are logged, in seconds",
        sets=(("metrics.rotate_interval_s", None),),
        built=False,
        deprecated="metrics_rotate_interval",
    ),
    Shorthand(
        group=METRICS,
        flag="metrics_log_formatter",
        kind="str",
        help="Path of a Ruby script that formats logged metrics",
        built=False,
    ),
    Shorthand(
        group=JWT,
        flag="jwt_id_key",
        kind="str",
        help="Key that tokens are checked with",
        sets=(("jwt.secret", None),),
        secret=True,
        deprecated="jwt_secret",
    ),
    Shorthand(
        group=JWT,
        flag="jwt_id_param",
        kind="str",
        help="Query parameter that carries the token",
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
        help="Key of Turbo's stream names; serves them, too",
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
        help="Key of CableReady's stream names; serves them, too",
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


def _entries() -> tuple[Entry, ...]:
    """Reads the table off the annotations of the groups."""
    rows: list[Entry] = []
    for room, group in Options.__annotations__.items():
        defaults = group()
        for name, annotation in group.__annotations__.items():
            declared, row = get_args(annotation)
            rows.append(
                Entry(
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
        return "tags" if row.tags else "list"
    if declared is int:
        return "int"
    return "bool" if declared is bool else "str"


def _choices(declared: object) -> tuple[str, ...]:
    """The values of a Literal, or of a tuple of them; empty where anything goes."""
    if get_origin(declared) is tuple:
        return _choices(get_args(declared)[0])
    return get_args(declared) if get_origin(declared) is Literal else ()


TABLE: Final = _entries()
