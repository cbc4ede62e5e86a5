"""Every option of the server, once: name, type, default, flag, variable, TOML key, meaning.

The classes are the rooms' groups: a room gets its own, ``Options`` holds one of each and stays in
the assembly. The value of a field declares its row in the table; what a row does not state derives from
the field's name.
Follows anycable-go 1.6.16: its flags, its ``ANYCABLE_*`` variables, its ``anycable.toml``.
Knows: facts. Does not know: where a value comes from; see ``load``.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, TypeVar, get_args, get_origin

import msgspec

Value = int | bool | str | tuple[str, ...]
Kind = Literal["int", "bool", "str", "list", "tags"]

PORT_MAX: Final = 65535
INT_MAX: Final = 2**63 - 1
DERIVED: Final = ""
"""What an option leaves to the :class:`Section` of its class."""

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


class Option(msgspec.Struct, frozen=True):
    """What the sources and the documentation know about one option.

    ``group`` is its heading in the help, ``toml`` its dotted key. ``flag`` None: it has neither a flag
    nor a variable of its own. ``variables`` follow the one that the flag gives (``--max-conn``:
    ``ANYCABLE_MAX_CONN``); ``flag_aliases`` give theirs, too. ``minimum`` and ``maximum`` bound an
    int. A list is split at ``separator``; ``joined`` lists are printed to TOML as one string,
    ``tags`` as a table. ``secret``: never shown in an error. ``hidden``: left out of ``-h``.
    ``required``: an empty value means the default. ``filled``: an empty variable means that none is given,
    because empty text would mean nothing. ``deprecated``: the replacement.

    ``built`` False: the feature is not in this version, and only the default, the ``harmless``
    values and that of the option ``same_as`` are accepted; ``later`` names single values of which
    the same is true.
    """

    help: str
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
    secret: bool = False
    hidden: bool = False
    required: bool = False
    filled: bool = False
    built: bool = True
    later: tuple[str | int, ...] = ()
    harmless: tuple[str | int, ...] = ()
    same_as: str | None = None
    deprecated: str | None = None


class Section(msgspec.Struct, frozen=True):
    """What the options of one class derive from their names, unless they say otherwise.

    ``group`` is the heading. ``flags`` and ``toml`` stand before the name of an option without its
    unit: ``interval_s`` in ``Section(PING, flags="ping_", toml="ping.")`` is ``--ping_interval`` and
    ``ping.interval``.
    """

    group: str
    flags: str = ""
    toml: str = ""

    def complete(self, name: str, stated: Option) -> Option:
        """The option of this name with what it does not state itself, and all of its variables."""
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
    """What stands for a field in the body of its class, until the class is built."""

    default: object
    option: Option


def option(default: _V, help: str, **stated: Any) -> _V:
    """Declares an option, as the value of a class attribute whose annotation gives its type.

    ``stated`` are fields of :class:`Option`: what its name and the :class:`Section` of its class do
    not say, or say wrongly.
    """
    declared: Any = _Declared(default, Option(help, **stated))
    return declared  # type: ignore[no-any-return]


class _GroupMeta(msgspec.StructMeta):
    """Gives a struct the defaults of its options, and keeps the options beside them.

    A dataclass has metadata for that, but building thirty of them takes 30 ms of every start.
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
    """Options of one room; ``options`` has the row of each field."""

    section: ClassVar[Section]
    options: ClassVar[Mapping[str, Option]]


def variable_of(flag: str) -> str:
    """The environment variable of a flag: ``max-conn`` → ``ANYCABLE_MAX_CONN``."""
    return "ANYCABLE_" + flag.upper().replace("-", "_")


class ServerOptions(Group, frozen=True, kw_only=True):
    """Where the server listens and whom it lets in."""

    section = Section(SERVER, toml="server.")

    host: str = option("localhost", "Address to listen on")
    port: int = option(8080, "Port to listen on", variables=("PORT",), maximum=PORT_MAX)
    max_conn: int = option(
        0, "How many clients may be connected at once (0: no limit)", flag="max-conn"
    )
    health_path: str = option(
        "/health", "Path that answers health checks", flag="health-path", filled=True
    )
    ready_path: str = option(
        "/ready",
        "Path that answers whether this node may be sent clients",
        flag="ready-path",
        filled=True,
    )
    workers: int = option(
        1, "How many processes share the ports, each a node with its own limits", minimum=1
    )
    asgi: str = option(
        "", "ASGI application (module:name) that answers on the server's port what is not ours"
    )
    allowed_origins: tuple[str, ...] = option(
        (),
        "Origins that may connect, such as www.example.com, *.example.io or https://example.com"
        " (empty: all)",
        joined=True,
    )
    ssl_cert: str = option(
        "", "Path of the TLS certificate (PEM)", group=SSL, toml="server.ssl.cert_path"
    )
    ssl_key: str = option(
        "", "Path of the TLS private key (PEM)", group=SSL, toml="server.ssl.key_path"
    )


class AppOptions(Group, frozen=True, kw_only=True):
    """The application's code, where the server runs it itself."""

    section = Section(SERVER, toml="app.")

    workers: int = option(
        0,
        "How many processes beside this one run the code of catenary app:cable, replaced on SIGHUP"
        " (0: it runs in this process)",
        flag="app_workers",
    )
    reload: bool = option(
        False,
        "Load the code of catenary app:cable again when a Python file here changes (in one app"
        " worker unless app_workers says otherwise); the pages of asgi stay",
    )


class AccessOptions(Group, frozen=True, kw_only=True):
    """Secrets and switches that concern several rooms; ``effective`` spreads them."""

    section = Section(SERVER)

    secret: str = option(
        "",
        "Application secret: the keys of broadcasting, HTTP RPC, signed streams, JWT and the"
        " API come from it unless they are given (none: no secret)",
        secret=True,
    )
    broadcast_key: str = option(
        "", "Key that publishers over HTTP must show, but for --public (none: no key)", secret=True
    )
    public: bool = option(
        False, "[UNSAFE] Let everybody connect, subscribe to any stream and publish"
    )
    noauth: bool = option(False, "[UNSAFE] Let everybody connect without asking the application")


class NodeOptions(Group, frozen=True, kw_only=True):
    """The node itself: its name, its end, its pools."""

    section = Section(SERVER, toml="app.")

    node_id: str = option(
        "",
        "Name of this node in logs and between nodes (empty: made at each start)",
        toml="node_id",
        hidden=True,
    )
    shutdown_timeout_s: int = option(30, "How long a graceful shutdown may take, in seconds")
    shutdown_delay_s: int = option(
        0, "How long to go on as before after the signal to shut down, in seconds"
    )
    shutdown_slowdrain: bool = option(
        False, "Spread the disconnects of a shutdown over its timeout"
    )
    shutdown_pool_size: int = option(
        16,
        "Accepted without effect: there is no pool of goroutines to size",
        toml="app.shutdown_disconnect_gopool_size",
        toml_aliases=("app.shutdown_pool_size",),
        hidden=True,
    )
    hub_pool_size: int = option(
        16,
        "Accepted without effect: there is no pool of goroutines to size",
        group=BROADCASTING,
        flag="hub_gopool_size",
        toml="app.broadcast_gopool_size",
        toml_aliases=("app.hub_gopool_size",),
        hidden=True,
    )
    stats_refresh_interval_s: int = option(
        5, "How often to refresh the gauges of the server, in seconds", group=METRICS
    )


class DeploymentOptions(Group, frozen=True, kw_only=True):
    """The place where the server runs."""

    section = Section(DEPLOYMENT)

    presets: tuple[Preset, ...] = option(
        (), "Defaults of a place: fly, heroku, broker, none (empty: found from the environment)"
    )
    disable_telemetry: bool = option(
        False,
        "Accepted without effect: no telemetry is ever sent",
        flag=None,
        variables=("ANYCABLE_DISABLE_TELEMETRY",),
        hidden=True,
    )


class WebSocketOptions(Group, frozen=True, kw_only=True):
    """The cable's WebSocket endpoint."""

    section = Section(WEBSOCKETS, toml="ws.")

    paths: tuple[str, ...] = option(
        ("/cable",),
        "Paths of the cable; a * at the end and {placeholders} are allowed",
        group=SERVER,
        flag="path",
        toml_aliases=("ws.path",),
        required=True,
    )
    max_message_size_bytes: int = option(
        65536, "Longest message taken from a client, in bytes", minimum=1, hidden=True
    )
    max_pending_size_bytes: int = option(
        1048576,
        "How much may wait to be written to a client before it is disconnected as too slow,"
        " in bytes (0: no limit)",
        flag="ws_max_pending_size",
    )
    write_timeout_s: int = option(
        2,
        "How long a client may take to answer a close frame before it is cut off, in seconds",
        flag="ws_write_timeout",
    )
    read_buffer_size_bytes: int = option(
        1024,
        "Accepted without effect: connections have no read buffer of their own (bytes)",
        hidden=True,
    )
    write_buffer_size_bytes: int = option(
        1024,
        "Accepted without effect: connections have no write buffer of their own (bytes)",
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
        "How often clients get a ping, in seconds (0: never; a client may ask for another"
        " with ?pi=)",
        flag="ping_interval",
        toml="app.ping_interval",
    )
    timestamp_precision: TimestampPrecision = option(
        "s",
        "Unit of the timestamp in a ping (a client may ask for another with ?ptp=)",
        flag="ping_timestamp_precision",
        toml="app.ping_timestamp_precision",
        hidden=True,
    )
    pong_timeout_s: int = option(
        0,
        "How long to wait for a pong before the client is disconnected, in seconds"
        " (0: no pongs are asked for)",
    )
    native: bool = option(
        False,
        "Send the transport's own pings (WebSocket ping frames) besides those of the protocol",
        flag="enable_native_pings",
        toml="app.enable_native_ping",
        toml_aliases=("app.enable_native_pings",),
    )


class LimitOptions(Group, frozen=True, kw_only=True):
    """What clients may cost, so that none harms the others. See docs/limits.md."""

    section = Section(LIMITS, toml="limits.")

    max_header_size_bytes: int = option(
        65536, "Longest head of a request that is read, in bytes", minimum=1024
    )
    max_headers: int = option(128, "How many header lines a handshake may have", minimum=16)
    handshake_timeout_s: int = option(
        5,
        "How long a client may take to ask for something after it connected, in seconds",
        minimum=1,
    )
    max_waiting_handshakes: int = option(
        4096, "How many handshakes may wait for their turn before more are refused", minimum=1
    )
    max_pending_requests_size_bytes: int = option(
        64 * 1024 * 1024,
        "How many bytes all incomplete requests together may hold in memory; beyond, those that have"
        " waited longest are refused (0: no limit)",
    )
    message_timeout_s: int = option(
        30,
        "How long a message that has begun may take to be complete, in seconds (0: no limit)",
        flag="ws_message_timeout",
    )
    max_message_rate: int = option(
        1000,
        "How many messages a second are read from a client, pings included; what it says beyond"
        " waits (0: no limit)",
        flag="ws_max_message_rate",
    )
    max_identifier_size: int = option(
        8192, "Longest identifier of a subscription, in characters (0: no limit)"
    )
    max_subscriptions: int = option(1000, "How many subscriptions a client may have (0: no limit)")
    max_streams: int = option(
        65536, "How many streams the application may give a subscription (0: no limit)"
    )
    max_stream_name_size: int = option(
        8192, "Longest name of a stream that the application may give, in characters (0: no limit)"
    )
    max_state_keys: int = option(
        1000,
        "How many keys of state the application may give a connection, or a subscription (0: no limit)",
    )
    max_state_size: int = option(
        1048576,
        "How long the state of a connection or of a subscription may be, its identifiers or its"
        " presence info, in characters (0: no limit)",
    )
    tcp_timeout_s: int = option(
        60,
        "How long the other end of a connection may leave TCP unanswered before it counts as dead,"
        " in seconds (0: as the system has it)",
    )


class BroadcastOptions(Group, frozen=True, kw_only=True):
    """Where publications of the application come from."""

    section = Section(BROADCASTING)

    adapters: tuple[BroadcastAdapter, ...] = option(
        ("http", "redis"),
        "Where publications come from; several may be given",
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
        "Port that takes publications (0: the server's own where a key is needed, else 8090)",
        maximum=PORT_MAX,
    )
    path: str = option("/_broadcast", "Path that takes publications", filled=True)
    secret: str = option(
        "",
        "Key that publishers over HTTP must show",
        secret=True,
        hidden=True,
        deprecated="broadcast_key",
    )
    cors_headers: bool = option(
        False,
        "Let pages of allowed origins publish (CORS)",
        flag="http_broadcast_cors",
        hidden=True,
    )
    cors_hosts: tuple[str, ...] = option(
        (),
        "Origins that may publish from a page (empty: those of allowed_origins)",
        flag=None,
        joined=True,
        hidden=True,
    )


class RedisxOptions(Group, frozen=True, kw_only=True):
    """Publications from a Redis stream, which one node reads at a time."""

    section = Section(REDIS_X_BROADCAST, flags="redisx_", toml="redis_stream_broadcast.")

    stream: str = option("__anycable__", "Redis stream that carries publications", filled=True)
    consumer_group: str = option(
        "bx",
        "Consumer group of the nodes",
        flag="redisx_group",
        toml="redis_stream_broadcast.group",
        hidden=True,
        filled=True,
    )
    read_block_ms: int = option(
        2000,
        "How long one read of the stream may wait, in milliseconds",
        flag="redisx_read_block_milliseconds",
        toml="redis_stream_broadcast.stream_read_block_milliseconds",
        minimum=1,
        hidden=True,
    )


class PubSubOptions(Group, frozen=True, kw_only=True):
    """What carries publications between nodes."""

    section = Section(BROADCASTING, flags="pubsub_")

    adapter: PubSubAdapter = option(
        "",
        "What carries publications between nodes",
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
    """What is kept of streams and sessions."""

    section = Section(BROKER, toml="broker.")

    adapter: BrokerAdapter = option(
        "",
        "What keeps the history of streams, sessions and presence; nats needs nats-server 2.11 or newer",
        group=BROADCASTING,
        flag="broker",
    )
    history_ttl_s: int = option(300, "How long the history of a stream is kept, in seconds")
    history_limit: int = option(100, "How many messages the history of a stream keeps")
    sessions_ttl_s: int = option(300, "How long a lost session can be resumed, in seconds")
    restored_action: str = option(
        "", "Action to perform on every subscription of a session that was resumed (empty: none)"
    )
    presence_ttl_s: int = option(15, "How long a lost session stays present, in seconds")


class RedisOptions(Group, frozen=True, kw_only=True):
    """The way to Redis."""

    section = Section(REDIS, flags="redis_", toml="redis.")

    url: str = option(
        "redis://localhost:6379",
        "URL of Redis: redis://, rediss://, unix:///path or host:port; with sentinels its host is the name of"
        " the master",
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
        30, "Accepted without effect: sentinels are asked at each connect (seconds)", hidden=True
    )
    keepalive_interval_s: int = option(
        30,
        "How often to find out whether a quiet connection is alive, in seconds",
        toml="redis.keepalive_ping_interval",
        toml_aliases=("redis.keepalive_interval",),
        hidden=True,
    )
    tls_verify: bool = option(False, "Check the certificate of Redis (rediss:// URLs)", hidden=True)
    tls_ca_cert_path: str = option("", "Path of the CA certificate that signs the one of Redis")
    tls_client_cert_path: str = option("", "Path of the certificate shown to Redis")
    tls_client_key_path: str = option("", "Path of the key of the certificate shown to Redis")
    max_reconnect_attempts: int = option(
        5,
        "Accepted without effect: a lost connection is tried again until it is back",
        flag=None,
        hidden=True,
    )
    disable_cache: bool = option(
        False, "Accepted without effect: client-side caching is never used", hidden=True
    )


class NatsOptions(Group, frozen=True, kw_only=True):
    """The way to NATS."""

    section = Section(NATS, flags="nats_", toml="nats.")

    servers: tuple[str, ...] = option(
        ("nats://127.0.0.1:4222",),
        "URLs of NATS servers",
        joined=True,
        secret=True,
        filled=True,
    )
    dont_randomize_servers: bool = option(False, "Try the servers in the order given", hidden=True)
    max_reconnect_attempts: int = option(
        5,
        "Accepted without effect: a lost connection is tried again for ever",
        flag=None,
        hidden=True,
    )


class EnatsOptions(Group, frozen=True, kw_only=True):
    """The embedded NATS server."""

    section = Section(EMBEDDED_NATS, flags="enats_", toml="embedded_nats.")

    enabled: bool = option(
        False, "Run a NATS server inside and use it between nodes", flag="embed_nats"
    )
    address: str = option(
        "nats://127.0.0.1:4222",
        "Address that NATS listens on (empty: a free port of this machine, with a secret)",
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
        (), "Known gateways, split by semicolons: name:address,address;name:address", separator=";"
    )
    gateway_advertise: str = option("", "Address under which others reach the NATS gateway")
    store_dir: str = option(
        "", "Directory of JetStream", toml="embedded_nats.jetstream_store_dir", hidden=True
    )
    server_name: str = option(
        "", "Unique name of the NATS server (empty: made at each start)", toml="embedded_nats.name"
    )
    debug: bool = option(False, "Log what the NATS server does", hidden=True)
    trace: bool = option(False, "Log what the NATS server says and hears", hidden=True)
    max_payload_bytes: int = option(0, "Longest NATS message, in bytes (0: 1 MB)")
    jetstream: bool = option(False, "Run JetStream in the NATS server", flag=None, hidden=True)
    jetstream_ready_timeout_s: int = option(
        30, "How long to wait for JetStream, in seconds", flag=None, hidden=True
    )


class RpcOptions(Group, frozen=True, kw_only=True):
    """The application behind the server."""

    section = Section(RPC, flags="rpc_", toml="rpc.")

    host: str = option(
        "localhost:50051",
        "The application: host:port, dns:///host:port, grpc-list://a:1,b:2 or an http(s) URL",
        filled=True,
    )
    implementation: RpcImplementation = option(
        "",
        "How to speak to the application (empty: by the scheme of rpc_host)",
        flag="rpc_impl",
        hidden=True,
    )
    concurrency: int = option(
        28,
        "How many calls may be under way at once; slightly less than the application takes",
        later=(0,),
    )
    concurrency_initial: int = option(
        25, "Adaptive concurrency: where it starts", minimum=1, built=False
    )
    concurrency_min: int = option(5, "Adaptive concurrency: its least", minimum=1, built=False)
    concurrency_max: int = option(100, "Adaptive concurrency: its most", minimum=1, built=False)
    enable_tls: bool = option(False, "Use TLS for gRPC", hidden=True)
    tls_verify: bool = option(True, "Check the certificate of the application", hidden=True)
    tls_root_ca: str = option(
        "",
        "CA certificate of the application, a path or PEM text (empty: those of the system);"
        " turns TLS on",
        toml="rpc.tls_root_ca_path",
        toml_aliases=("rpc.tls_root_ca",),
        hidden=True,
    )
    max_recv_size_bytes: int = option(
        0,
        "Longest answer of a gRPC call, in bytes (0: 4 MB)",
        flag="rpc_max_call_recv_size",
        toml_aliases=("rpc.max_call_recv_size",),
        hidden=True,
    )
    max_send_size_bytes: int = option(
        0,
        "Longest request of a gRPC call, in bytes (0: no limit)",
        flag="rpc_max_call_send_size",
        toml_aliases=("rpc.max_call_send_size",),
        hidden=True,
    )
    request_timeout_ms: int = option(
        0, "How long one request may take, in milliseconds (0: gRPC no limit, HTTP 3000)"
    )
    command_timeout_ms: int = option(
        3000, "How long a call may take with all its retries, in milliseconds", hidden=True
    )
    proxy_headers: tuple[str, ...] = option(
        ("cookie",),
        "Request headers that the application is told",
        flag="headers",
        toml_aliases=("rpc.headers",),
    )
    proxy_cookies: tuple[str, ...] = option(
        (), "Cookies that the application is told (empty: all)", flag="proxy-cookies"
    )
    secret: str = option(
        "",
        "Key shown to the application in RPC over HTTP (none: no key)",
        flag="http_rpc_secret",
        secret=True,
    )
    http_request_timeout_ms: int = option(
        0,
        "How long one request of RPC over HTTP may take, in milliseconds",
        flag="http_rpc_timeout",
        hidden=True,
        deprecated="rpc_request_timeout",
    )


class DisconnectorOptions(Group, frozen=True, kw_only=True):
    """Disconnect calls."""

    section = Section(DISCONNECTOR, flags="disconnect_", toml="disconnector.")

    mode: DisconnectMode = option(
        "auto",
        "When the application is told that a client left; auto: where it knew the client",
        toml="app.disconnect_mode",
        toml_aliases=("disconnector.mode",),
    )
    rate: int = option(
        100, "How many Disconnect calls are made in a second at most", minimum=1, hidden=True
    )
    backlog: int = option(
        4096,
        "How many Disconnect calls may wait",
        flag="disconnect_backlog_size",
        toml_aliases=("disconnector.backlog_size",),
        hidden=True,
    )


class LogOptions(Group, frozen=True, kw_only=True):
    """Logging."""

    section = Section(LOG, flags="log_", toml="logging.")

    level: LogLevel = option("info", "The least that is logged")
    format: LogFormat = option("text", "How lines of the log are written")
    debug: bool = option(False, "Log everything (log_level=debug)", flag="debug")


class MetricsOptions(Group, frozen=True, kw_only=True):
    """Counters and gauges."""

    section = Section(METRICS, flags="metrics_", toml="metrics.")

    log: bool = option(False, "Log the metrics", built=False)
    rotate_interval_s: int = option(
        15, "How often metrics go to the log and to StatsD, in seconds", minimum=1, built=False
    )
    log_filter: tuple[str, ...] = option((), "Which metrics are logged (empty: all)", built=False)
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
        same_as="server.port",
    )
    tags: tuple[str, ...] = option((), "Tags added to every metric, as name:value", tags=True)
    memory: bool = option(
        False,
        "Add detailed metrics of memory",
        flag=None,
        variables=("ANYCABLE_MEMORY_METRICS",),
        hidden=True,
        built=False,
    )


class StatsdOptions(Group, frozen=True, kw_only=True):
    """Metrics sent to StatsD."""

    section = Section(STATSD, flags="statsd_", toml="metrics.statsd.")

    host: str = option("", "StatsD server that gets the metrics, as host:port", built=False)
    prefix: str = option("anycable_go.", "What the names of metrics begin with", built=False)
    max_packet_size_bytes: int = option(
        1400, "Longest UDP packet, in bytes", minimum=1, hidden=True, built=False
    )
    tags_format: StatsdTagsFormat = option("datadog", "How tags are written", built=False)


class JwtOptions(Group, frozen=True, kw_only=True):
    """Clients that show a JSON Web Token."""

    section = Section(JWT, flags="jwt_", toml="jwt.")

    secret: str = option(
        "",
        "Key that tokens are checked with (empty: the application secret; none: no key)",
        secret=True,
    )
    param: str = option(
        "jid",
        "Query parameter that carries the token; a header of that name with x- in front, too",
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
        "", "Public key that tokens are checked with: PEM, or the path of a PEM file"
    )
    jwks_url: str = option("", "URL of the JSON Web Key Set of the issuer of tokens")
    jwks_refresh_s: int = option(
        300,
        "How often the key set is fetched, in seconds (10 at least); unknown keys bring it forward",
        minimum=10,
    )
    algorithms: tuple[JwtAlgorithm, ...] = option(
        (), "Algorithms that are accepted (empty: all that the given keys are good for)"
    )
    issuer: str = option("", "Issuer (iss) that tokens must have (empty: any)")
    audience: str = option("", "Audience (aud) that tokens must be for (empty: any)")
    resume_expired: bool = option(
        False, "Let clients resume their sessions after their token has expired"
    )


class StreamsOptions(Group, frozen=True, kw_only=True):
    """Streams that clients subscribe to without the application."""

    section = Section(SIGNED_STREAMS, toml="streams.")

    secret: str = option(
        "",
        "Key that stream names are signed with (empty: the application secret; none: no key)",
        flag="streams_secret",
        secret=True,
    )
    public: bool = option(
        False,
        "Let clients subscribe to streams by their plain names",
        flag="public_streams",
        toml_aliases=("streams.public_streams",),
    )
    whisper: bool = option(
        False,
        "Let clients of signed streams whisper to each other (those of public streams may)",
        flag="streams_whisper",
    )
    presence: bool = option(
        True,
        "Let clients of signed and public streams tell that they are present",
        flag="streams_presence",
    )
    pubsub_channel: str = option(
        "$pubsub", "Name of the channel that gives these streams", flag=None, hidden=True
    )
    turbo: bool = option(
        False,
        "Serve Turbo Streams without the application",
        flag="turbo_streams",
        toml_aliases=("streams.turbo_streams",),
    )
    turbo_secret: str = option(
        "",
        "Key of Turbo's stream names (empty: that of signed streams)",
        flag="turbo_streams_secret",
        toml_aliases=("streams.turbo_streams_secret",),
        secret=True,
    )
    cable_ready: bool = option(
        False,
        "Serve CableReady streams without the application",
        flag_aliases=("cable_ready_streams",),
    )
    cable_ready_secret: str = option(
        "", "Key of CableReady's stream names (empty: that of signed streams)", secret=True
    )


class SseOptions(Group, frozen=True, kw_only=True):
    """Server-sent events."""

    section = Section(SSE, flags="sse_", toml="sse.")

    enabled: bool = option(False, "Serve event streams", flag="sse")
    path: str = option("/events", "Path of event streams", filled=True)
    allowed_origins: tuple[str, ...] = option(
        (), "Origins whose pages may read event streams (empty: allowed_origins)", joined=True
    )


class DsOptions(Group, frozen=True, kw_only=True):
    """Durable Streams."""

    section = Section(DURABLE_STREAMS, flags="ds_", toml="ds.")

    enabled: bool = option(False, "Serve Durable Streams", flag="ds", built=False)
    path: str = option("/ds", "Path of Durable Streams", built=False)
    skip_auth: bool = option(False, "Check the stream only, not the client", built=False)
    poll_interval_s: int = option(10, "How long a poll may wait, in seconds", built=False)
    sse_ttl_s: int = option(60, "How long an event stream may last, in seconds", built=False)


class PusherOptions(Group, frozen=True, kw_only=True):
    """Clients and publishers that speak Pusher."""

    section = Section(PUSHER, flags="pusher_", toml="pusher.")

    app_id: str = option("", "Pusher application id", built=False)
    app_key: str = option("", "Pusher application key", built=False)
    secret: str = option(
        "",
        "Pusher secret (empty: the application secret; none: no secret)",
        secret=True,
        built=False,
        harmless=("none",),
        same_as="access.secret",
    )
    api_port: int = option(
        0, "Port of the Pusher HTTP API (0: the server's own)", maximum=PORT_MAX, built=False
    )


class ApiOptions(Group, frozen=True, kw_only=True):
    """The HTTP API."""

    section = Section(API, flags="api_", toml="api.")

    port: int = option(0, "Port of the API (0: the server's own)", maximum=PORT_MAX)
    path: str = option("/api", "What the paths of the API begin with", filled=True)
    secret: str = option("", "Key that callers of the API must show", secret=True)
    host: str = option("", "Address of the API where it has its own port", flag=None, hidden=True)
    cors_headers: bool = option(False, "Let pages call the API (CORS)", flag=None, hidden=True)
    cors_hosts: tuple[str, ...] = option(
        (), "Origins that may call the API from a page", flag=None, joined=True, hidden=True
    )


class PollOptions(Group, frozen=True, kw_only=True):
    """Long polling."""

    section = Section(LONG_POLLING, flags="poll_", toml="poll.")

    enabled: bool = option(False, "Serve long polling", flag="poll", built=False)
    path: str = option("/lp", "Path of long polling", built=False)
    interval_s: int = option(15, "How long a poll may wait, in seconds", built=False)
    flush_interval_ms: int = option(
        500, "How long to gather messages before a poll is answered, in milliseconds", built=False
    )
    max_request_size_bytes: int = option(
        65536,
        "Longest request body, in bytes",
        variables=("ANYCABLE_POLL_MAX_REQEUEST_SIZE",),
        built=False,
    )
    keepalive_timeout_s: int = option(
        5, "How long a session lives without a poll, in seconds", built=False
    )


class GraphqlOptions(Group, frozen=True, kw_only=True):
    """Apollo GraphQL clients."""

    section = Section(GRAPHQL, flags="graphql_", toml="graphql.")

    path: str = option("", "Path that takes GraphQL clients (empty: none)", built=False)
    channel: str = option("GraphqlChannel", "Channel class of the application", built=False)
    action: str = option("execute", "Action of that channel", built=False)
    idle_timeout_s: int = option(2, "How long to wait for connection_init, in seconds", built=False)


class OcppOptions(Group, frozen=True, kw_only=True):
    """Charging stations that speak OCPP."""

    section = Section(OCPP, flags="ocpp_", toml="ocpp.")

    path: str = option(
        "", "What the paths of charging stations begin with (empty: none)", built=False
    )
    channel: str = option("OCPPChannel", "Channel class of the application", built=False)
    granular_actions: bool = option(True, "Give each OCPP command its own action", built=False)
    heartbeat_interval_s: int = option(
        30,
        "How often stations send a heartbeat, in seconds",
        flag_aliases=("ocpp_hearbeat_interval",),
        built=False,
    )


class AdminOptions(Group, frozen=True, kw_only=True):
    """The console page."""

    section = Section(ADMIN, flags="admin_", toml="admin.")

    enabled: bool = option(False, "Serve the console", flag="admin", built=False)
    path: str = option("/_high_voltage_", "Path of the console", built=False)
    port: int = option(
        0, "Port of the console (0: the server's own)", maximum=PORT_MAX, built=False
    )
    secret: str = option("", "Key that actions of the console need", secret=True, built=False)


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
    """Reads the table off the fields of the groups."""
    rows: list[Entry] = []
    for room, group in Options.__annotations__.items():
        defaults = group()
        for name, stated in group.options.items():
            declared, row = group.__annotations__[name], group.section.complete(name, stated)
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
