"""Checks of options before the server starts, beyond the type of each value.

Knows: which options go together, and which need a feature that this version lacks.
Each error is one line that names the option as it was given.
"""

import re
from typing import Final

from catenary.config.addresses import (
    gateway,
    listening_address,
    server_address,
    statsd_address,
)
from catenary.config.effective import is_http, keys, redis_address, sample_ratio, uses_redis
from catenary.config.networks import network
from catenary.config.options import ALL_PORTS, PORT_MAX, Options, Shorthand, Value
from catenary.config.origins import allowed_origin
from catenary.config.paths import check_paths
from catenary.config.pusher_apps import pusher_apps
from catenary.config.stream_rules import stream_rules
from catenary.config.urls import http_url
from catenary.errors import ConfigError

# These characters end a name in one of the formats of tags.
_STATSD_PREFIX: Final = re.compile(r"[^\s:|#;,=]*")
_PARAM: Final = re.compile(r"[A-Za-z0-9_-]+")
# A NATS subject; it may have wildcards, to subscribe to several.
_SUBJECT: Final = re.compile(r"([^\s.*>]+|\*)(\.([^\s.*>]+|\*))*(\.>)?")
# A label of Prometheus; le is that of the buckets of a histogram
_LABEL: Final = re.compile(r"(?!__|le\Z)[A-Za-z_][A-Za-z0-9_]*")


def refuse_unbuilt(row: Shorthand, value: Value, source: str) -> None:
    """Raises :class:`catenary.errors.ConfigError` if the flag asks for a feature that is not built."""
    if not row.built and value not in (False, "", 0):
        raise ConfigError(f"{source}: this option is not available in this version; {row.advice}")


def check_together(options: Options) -> None:
    """Raises :class:`catenary.errors.ConfigError` for options that contradict each other."""
    server, redis, rpc = options.server, options.redis, options.rpc
    _check_pair("ssl_cert", server.ssl_cert, "ssl_key", server.ssl_key)
    _check_pair(
        "redis_tls_client_cert_path",
        redis.tls_client_cert_path,
        "redis_tls_client_key_path",
        redis.tls_client_key_path,
    )
    _check_nats_access(options)
    if rpc.implementation == "http" and not is_http(rpc.host):
        raise ConfigError(
            "rpc_host: expected an http:// or https:// URL for rpc_impl=http, got something else"
        )
    _check_adaptive_concurrency(options)
    _check_tokens(options)
    _check_origins(options)
    _check_proxies(options)
    _check_nodes(options)
    _check_nats_addresses(options)
    _check_nats_names(options)
    pusher_apps(options)
    stream_rules(options)
    _check_durable_streams(options)
    _check_graphql(options)
    _check_statsd(options)
    _check_metrics_tags(options)
    _check_tracing(options)
    _check_admin(options)
    check_paths(options)


def _check_adaptive_concurrency(options: Options) -> None:
    rpc = options.rpc
    low, first, high = rpc.concurrency_min, rpc.concurrency_initial, rpc.concurrency_max
    if rpc.concurrency == 0 and not low <= first <= high:
        raise ConfigError(
            "rpc_concurrency_initial: expected a value from rpc_concurrency_min to rpc_concurrency_max"
            f" ({low} to {high}), got {first}"
        )


def _check_metrics_tags(options: Options) -> None:
    """Refuses tags that are no labels of Prometheus, which would refuse all metrics for the sake of one.

    Source: "Data model", "Metric names and labels" of the Prometheus documentation.
    """
    if not options.metrics.http_path:
        return
    names = [tag.partition(":")[0] for tag in options.metrics.tags]
    for name in names:
        if not _LABEL.fullmatch(name):
            raise ConfigError(
                "metrics_tags: expected names of letters, digits and _ for Prometheus (metrics_http), not beginning "
                f"with a digit or __, and not le, got {name[:100]!r}"
            )
    if len(set(names)) < len(names):
        raise ConfigError("metrics_tags: expected each name once, got one twice")


def _check_statsd(options: Options) -> None:
    statsd = options.statsd
    if not statsd.host:
        return
    statsd_address(statsd.host)
    if not _STATSD_PREFIX.fullmatch(statsd.prefix):
        raise ConfigError(
            f"statsd_prefix: expected text without spaces and without any of : | # ; , =, got {statsd.prefix!r}"
        )


def _check_graphql(options: Options) -> None:
    graphql = options.graphql
    if not graphql.path:
        return
    if graphql.idle_timeout_s < 1:
        raise ConfigError(
            f"graphql_idle_timeout: expected 1 or more seconds, got {graphql.idle_timeout_s}"
        )
    for name, value in (("graphql_channel", graphql.channel), ("graphql_action", graphql.action)):
        if not value:
            raise ConfigError(f"{name}: expected a name, got an empty one")


def _check_admin(options: Options) -> None:
    """Refuses a console without a key, in which anybody could disconnect clients, unless the server is public."""
    admin = options.admin
    if not admin.enabled:
        return
    if not options.access.public and admin.secret in ("", "none"):
        raise ConfigError(
            "admin: expected a key for the console (admin_secret), or public mode, got no key"
        )
    if set("{}*%") & set(admin.path) or admin.path.strip("/") == "":
        raise ConfigError(
            f"admin_path: expected a path without wildcards, not /, got {admin.path!r}"
        )


def _check_tracing(options: Options) -> None:
    otel = options.otel
    sample_ratio(otel)
    if otel.endpoint:
        try:
            http_url(otel.endpoint)
        except ValueError:
            raise ConfigError(
                f"otel_endpoint: expected http(s)://…, got {_shown(otel.endpoint)}"
            ) from None


def trusting_everybody(options: Options) -> list[str]:
    """A warning for trusted proxies among which is every address."""
    found = [each for each in options.server.trusted_proxies if each.strip().endswith("/0")]
    return [
        f"trusted_proxies: with {each}, whoever reaches the port can claim any address"
        for each in found
    ]


def _check_origins(options: Options) -> None:
    for name, entries in (
        ("allowed_origins", options.server.allowed_origins),
        ("http_broadcast.cors_hosts", options.http_broadcast.cors_hosts),
        ("api.cors_hosts", options.api.cors_hosts),
        ("sse_allowed_origins", options.sse.allowed_origins),
    ):
        for entry in filter(str.strip, entries):
            try:
                allowed_origin(entry)
            except ValueError as error:
                raise ConfigError(f"{name}: {error}") from error


def _check_proxies(options: Options) -> None:
    server = options.server
    for entry in server.trusted_proxies:
        try:
            network(entry)
        except ValueError as error:
            raise ConfigError(f"trusted_proxies: {error}") from error
    for port in server.proxy_protocol:
        if port != ALL_PORTS and not (port.isdecimal() and 0 < int(port[:6]) <= PORT_MAX):
            raise ConfigError(f"proxy_protocol: expected ports, or all, got {port[:80]!r}")
    if server.proxy_protocol and not server.trusted_proxies:
        raise ConfigError(
            "proxy_protocol: expected trusted_proxies beside it, which may send the header, got proxy_protocol alone"
        )


def _check_nodes(options: Options) -> None:
    """Refuses several nodes without shared storage: a client could not resume on another one."""
    broker, pubsub = options.broker.adapter, options.pubsub.adapter
    if broker == "memory" and options.server.workers > 1:
        raise ConfigError(
            "workers: expected broker=nats (embedded) or broker=redis for more than one worker, got "
            "broker=memory, which processes can't share"
        )
    if options.api.host not in ("", options.server.host) and options.server.workers > 1:
        raise ConfigError(
            "api.host: expected the server's host for more than one worker, because workers share the "
            "ports of one address, got another host"
        )
    if options.server.handover_socket and options.enats.enabled:
        raise ConfigError(
            "handover_socket: expected a NATS server of its own (nats_servers), got an embedded one (embed_nats), whose "
            "port two servers can't share"
        )
    metrics = options.metrics
    others = (0, options.server.port, options.http_broadcast.port, options.api.port)
    if (
        metrics.http_path
        and options.server.workers > 1
        and metrics.host not in ("", options.server.host)
        and metrics.port in others
    ):
        raise ConfigError(
            "metrics_host: expected a metrics_port of its own for another host with more than one worker, because "
            "workers share the ports of one address, got the port of others"
        )
    if broker == "memory" and pubsub not in ("", "none"):
        raise ConfigError(
            f"broker: expected broker={pubsub} beside pubsub={pubsub}, got memory, which other "
            "nodes can't see"
        )
    if broker in ("redis", "nats") and pubsub not in ("", "none", broker):
        raise ConfigError(
            f"pubsub: expected {broker} beside broker={broker}, which keeps and sends in one step, "
            f"got {pubsub}"
        )


def check_redis(options: Options) -> list[str]:
    """Checks the addresses of Redis if anything connects to it: REDIS_URL may be set for another program. Takes
    effective options.

    Returns warnings for parameters of the URL that have no effect. Raises
    :class:`catenary.errors.ConfigError`.
    """
    if not uses_redis(options):
        return []
    address = redis_address(options.redis)
    _ = address.sentinel_servers
    return [f"redis_url: the parameter {name} has no effect" for name in address.server.unknown]


def _check_nats_addresses(options: Options) -> None:
    enats = options.enats
    if not options.nats.servers:
        raise ConfigError("nats_servers: expected a URL, got none")
    for name, addresses, read in (
        ("nats_servers", options.nats.servers, server_address),
        ("enats_addr", (enats.address,), listening_address),
        ("enats_cluster", (enats.cluster_address,), listening_address),
        ("enats_cluster_routes", enats.routes, server_address),
        ("enats_gateway", (enats.gateway_address,), listening_address),
        ("enats_gateways", enats.gateways, gateway),
    ):
        for address in filter(None, addresses):
            try:
                read(address)
            except ValueError as error:
                raise ConfigError(f"{name}: {error}, got {_shown(address)}") from error
    for name, given, other, address in (
        ("enats_cluster_routes", enats.routes, "enats_cluster", enats.cluster_address),
        ("enats_gateways", enats.gateways, "enats_gateway", enats.gateway_address),
    ):
        if given and not address:
            raise ConfigError(f"{name}: expected {other} beside it, got {name} alone")


def _check_nats_access(options: Options) -> None:
    nats = options.nats
    _check_pair(
        "nats_tls_client_cert_path",
        nats.tls_client_cert_path,
        "nats_tls_client_key_path",
        nats.tls_client_key_path,
    )
    for one, first, other, second in (
        ("nats_creds_path", nats.creds_path, "nats_nkey_path", nats.nkey_path),
        (
            *("nats_jetstream_domain", nats.jetstream_domain),
            *("nats_jetstream_api_prefix", nats.jetstream_api_prefix),
        ),
    ):
        if first and second:
            raise ConfigError(f"{one}: expected {one} or {other}, got both")
    for name, subject in (
        ("nats_inbox_prefix", nats.inbox_prefix),
        ("nats_jetstream_domain", nats.jetstream_domain),
        ("nats_jetstream_api_prefix", nats.jetstream_api_prefix),
    ):
        if subject and (set("*>") & set(subject) or _SUBJECT.fullmatch(subject) is None):
            raise ConfigError(
                f"{name}: expected words with dots between them and without spaces or wildcards, got {subject!r}"
            )
    if not nats.creds_path and not nats.nkey_path:
        return
    name = "nats_creds_path" if nats.creds_path else "nats_nkey_path"
    if options.enats.enabled and nats.servers == Options().nats.servers:
        raise ConfigError(
            f"{name}: expected nats_servers beside it, got embed_nats, whose users have none"
        )
    if any("@" in server for server in nats.servers):
        raise ConfigError(f"{name}: expected nats_servers without a user, got another user there")


def _shown(address: str) -> str:
    """The address for an error, without one that may contain a password."""
    return "something else" if "@" in address else repr(address)


def _check_nats_names(options: Options) -> None:
    enats = options.enats
    for name, word in (
        ("enats_cluster_name", enats.cluster_name),
        ("enats_server_name", enats.server_name),
    ):
        if any(not char.isprintable() or char.isspace() for char in word):
            raise ConfigError(f"{name}: expected a name without spaces, got {word!r}")
    if (enats.cluster_address or enats.gateway_address) and not enats.cluster_name:
        raise ConfigError("enats_cluster_name: expected a name for the cluster, got none")
    if _SUBJECT.fullmatch(options.broadcast.nats_channel) is None:
        raise ConfigError(
            "nats_channel: expected words with dots between them and without spaces, got "
            f"{options.broadcast.nats_channel!r}"
        )


def _check_durable_streams(options: Options) -> None:
    """Refuses durable streams without a history, writing without reading, and a path that is no prefix of theirs."""
    ds = options.ds
    if not ds.enabled:
        if ds.write:
            raise ConfigError("ds_write: expected ds beside it, got ds_write alone")
        return
    if not options.broker.adapter:
        raise ConfigError(
            "ds: expected a broker, whose history durable streams read (--presets=broker), got none"
        )
    if not options.broker.history_limit or not options.broker.history_ttl_s:
        raise ConfigError("ds: expected a history_limit and a history_ttl above 0, got no history")
    if ds.write and options.broker.adapter == "nats":
        raise ConfigError("ds_write: expected broker=memory or broker=redis, got nats")
    found = keys(options)
    if ds.write and not (options.access.public or found.api or found.streams):
        raise ConfigError(
            "ds_write: expected a key that writers need (secret, api_secret or streams_secret), got none"
        )
    if set("{}*") & set(ds.path) or ds.path.strip("/") == "":
        raise ConfigError(f"ds_path: expected a path without wildcards, not /, got {ds.path!r}")


def _check_tokens(options: Options) -> None:
    """Refuses enforced tokens without a key: nothing could verify them."""
    jwt = options.jwt
    has_key = bool(keys(options).tokens or jwt.public_key or jwt.jwks_url)
    if jwt.enforce and not has_key:
        raise ConfigError(
            "enforce_jwt: expected a key to check tokens with, such as jwt_secret, got none"
        )
    if jwt.enforce_expiry and jwt.resume_expired:
        raise ConfigError(
            "jwt_enforce_expiry: expected jwt_resume_expired off, which lets clients back in with an expired token"
        )
    if jwt.enforce_expiry and not has_key:
        raise ConfigError(
            "jwt_enforce_expiry: expected a key to check tokens with, such as jwt_secret, got none"
        )
    if _PARAM.fullmatch(jwt.param) is None:
        raise ConfigError(f"jwt_param: expected letters, digits, - and _, got {jwt.param!r}")
    if jwt.jwks_url:
        try:
            http_url(jwt.jwks_url)
        except ValueError:
            raise ConfigError(
                f"jwt_jwks_url: expected http(s)://…, got {_shown(jwt.jwks_url)}"
            ) from None


def _check_pair(one: str, first: str, other: str, second: str) -> None:
    if bool(first) != bool(second):
        given, missing = (one, other) if first else (other, one)
        raise ConfigError(f"{given}: expected {missing} beside it, got {given} alone")
