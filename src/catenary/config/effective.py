"""Turns given options into effective ones: fills in every value that depends on other options.

``--public`` sets three options, missing keys are derived from the application secret, the port of HTTP
broadcasts depends on whether a key is required. Follows anycable-go 1.6.16, except that ``secret=none``
means no secret everywhere (there some keys are derived from the word "none").
Knows: options. Does not know: how a key is derived; see ``auth/keys.py``.
"""

from typing import Final

import msgspec
from msgspec.structs import replace

from catenary.config.addresses import RedisAddress
from catenary.config.options import (
    AdminOptions,
    ApiOptions,
    HttpBroadcastOptions,
    Options,
    OtelOptions,
    PubSubAdapter,
    RedisOptions,
    RpcImplementation,
    RpcOptions,
)
from catenary.errors import ConfigError

HTTP_BROADCAST_PORT: Final = 8090
HTTP_RPC_TIMEOUT_MS: Final = 3000


class Key(msgspec.Struct, frozen=True):
    """A key; if ``derived``, ``text`` is the application secret from which it is derived."""

    text: str
    derived: bool


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The key of each use; None: no key is required, or sent.

    The last four are used without derivation: they verify tokens and stream names. Without one, nothing
    signed is accepted.
    """

    broadcast: Key | None
    rpc: Key | None
    api: Key | None
    tokens: str | None
    streams: str | None
    turbo: str | None
    cable_ready: str | None


def effective(options: Options) -> Options:
    """Fills in every value that other options determine. Idempotent.

    In effective options:

    - ``log.level`` includes ``debug``; ``app.workers`` includes ``app.reload``;
    - ``rpc.implementation`` is never empty, ``rpc.request_timeout_ms`` 0 means no limit, ``rpc.enable_tls``
      includes the CA, header names are in lower case;
    - the ports of HTTP broadcasts, metrics, the API and the console are set; ``http_broadcast.cors_hosts`` and
      ``api.cors_hosts`` default to the allowed origins;
    - ``access.public`` has set ``noauth`` and public streams;
    - ``broker.adapter`` is ``memory`` if a single node serves Pusher clients and none was chosen;
    - ``pubsub.adapter`` is the pub/sub between nodes, empty for a single node. Several workers without one
      use an embedded NATS server at an address of its own (``enats.address`` is empty).

    :func:`keys` has the keys.
    """
    access = options.access
    options = _filled(options)
    return replace(
        _between_nodes(options),
        app=replace(options.app, workers=options.app.workers or _code_workers(options)),
        access=replace(access, noauth=access.noauth or access.public),
        streams=replace(options.streams, public=options.streams.public or access.public),
        log=replace(options.log, level="debug" if options.log.debug else options.log.level),
        rpc=_rpc(options.rpc),
        http_broadcast=_http_broadcast(options),
        api=_api(options),
        admin=_admin(options),
        metrics=replace(options.metrics, port=options.metrics.port or options.server.port),
    )


def keys(options: Options) -> Keys:
    """All keys. In public mode publishers need none, but the API still requires its key."""
    secret = options.access.secret
    given = options.streams
    streams = _shared(given.secret, secret)
    return Keys(
        broadcast=None if options.access.public else _broadcast_key(options),
        rpc=_key(options.rpc.secret, secret),
        api=_key(options.api.secret, secret),
        tokens=_shared(options.jwt.secret, secret),
        streams=streams,
        turbo=_shared(given.turbo_secret, streams),
        cable_ready=_shared(given.cable_ready_secret, streams),
    )


def _code_workers(options: Options) -> int:
    """``--reload`` replaces a code worker, or with pages the whole process, which runs both."""
    return int(options.app.reload and not options.server.asgi)


def is_supervised(options: Options) -> bool:
    """Whether clients are served by workers of this process: by several, or by one that is replaced to reload pages. Takes
    effective options."""
    replaces_pages = bool(options.server.asgi) and (options.app.reload or options.app.workers > 0)
    return options.server.workers > 1 or replaces_pages


def uses_redis(options: Options) -> bool:
    """Whether anything connects to Redis."""
    adapters = {options.broker.adapter, options.pubsub.adapter, *options.broadcast.adapters}
    return not adapters.isdisjoint(("redis", "redisx"))


def redis_address(redis: RedisOptions) -> RedisAddress:
    """The address of Redis in the options."""
    return RedisAddress(
        url=redis.url,
        sentinels=redis.sentinels,
        keepalive_s=redis.keepalive_interval_s,
        tls_verify=redis.tls_verify,
        tls_ca_path=redis.tls_ca_cert_path,
        tls_client_cert_path=redis.tls_client_cert_path,
        tls_client_key_path=redis.tls_client_key_path,
    )


def _filled(options: Options) -> Options:
    """Treats an address that is empty in a file or a flag as not given."""
    defaults = Options()
    return replace(
        options,
        redis=replace(options.redis, url=options.redis.url or defaults.redis.url),
        rpc=replace(options.rpc, host=options.rpc.host or defaults.rpc.host),
    )


def _between_nodes(options: Options) -> Options:
    """A shared broker is the pub/sub, too, because it stores and sends in one step."""
    broker = options.broker.adapter
    adapter: PubSubAdapter = "" if options.pubsub.adapter == "none" else options.pubsub.adapter
    is_given = adapter != ""
    if broker == "redis" or broker == "nats":
        adapter = broker
    elif options.server.workers > 1 and not is_given:
        adapter = "nats"
    if options.pusher.app_id or options.pusher.apps:
        options = _with_broker(options, adapter)
    options = replace(options, pubsub=replace(options.pubsub, adapter=adapter))
    is_private = (
        options.server.workers > 1
        and adapter == "nats"
        and not is_given
        and not options.enats.enabled
        and options.nats.servers == Options().nats.servers
    )
    if not is_private:
        return options
    return replace(options, enats=replace(options.enats, enabled=True, address=""))


def _with_broker(options: Options, pubsub: PubSubAdapter) -> Options:
    """Pusher's presence channels need a broker: a single node without one stores in its memory. ``broker=none`` stays."""
    if options.broker.adapter or pubsub or options.server.workers > 1:
        return options
    return replace(options, broker=replace(options.broker, adapter="memory"))


def _rpc(rpc: RpcOptions) -> RpcOptions:
    implementation = rpc.implementation or _implementation(rpc.host)
    timeout_ms = rpc.request_timeout_ms
    if implementation == "http":
        timeout_ms = rpc.http_request_timeout_ms or timeout_ms or HTTP_RPC_TIMEOUT_MS
    return replace(
        rpc,
        implementation=implementation,
        request_timeout_ms=timeout_ms,
        enable_tls=rpc.enable_tls or bool(rpc.tls_root_ca),
        proxy_headers=tuple(name.lower() for name in rpc.proxy_headers),
    )


def sample_ratio(otel: OtelOptions) -> float:
    """The share of traces that are sampled. Raises :class:`catenary.errors.ConfigError` for text that is no number from 0
    to 1."""
    try:
        ratio = float(otel.sample_ratio)
    except ValueError:
        ratio = -1
    if not 0 <= ratio <= 1:
        raise ConfigError(
            f"otel_sample_ratio: expected a number from 0 to 1, got {otel.sample_ratio!r}"
        )
    return ratio


def is_http(host: str) -> bool:
    """Whether a host is an HTTP URL, as opposed to a gRPC target."""
    return host.lower().startswith(("http://", "https://"))


def _implementation(host: str) -> RpcImplementation:
    return "http" if is_http(host) else "grpc"


def _http_broadcast(options: Options) -> HttpBroadcastOptions:
    """The port defaults to the server's own if a key is required, or would be in a server that is not public."""
    given = options.http_broadcast
    default = HTTP_BROADCAST_PORT if _broadcast_key(options) is None else options.server.port
    return replace(
        given,
        port=given.port or default,
        cors_hosts=given.cors_hosts or options.server.allowed_origins,
    )


def _api(options: Options) -> ApiOptions:
    """The API defaults to the server's own port and address."""
    given, server = options.api, options.server
    port = given.port or server.port
    return replace(
        given,
        host=given.host if given.host and port != server.port else server.host,
        port=port,
        path=given.path.rstrip("/"),
        cors_hosts=given.cors_hosts or server.allowed_origins,
    )


def _admin(options: Options) -> AdminOptions:
    """The console defaults to the server's own port; its path has no slash at the end."""
    given = options.admin
    return replace(
        given,
        port=given.port or options.server.port,
        path=given.path.rstrip("/"),
        secret=_shared(given.secret, None) or "",
    )


def serves_api(options: Options) -> bool:
    """Whether the API is served: it needs a key, or a port of its own, or a public server. Takes effective
    options."""
    api = options.api
    is_apart = api.port != options.server.port
    return is_apart or options.access.public or keys(options).api is not None


def has_idle_key(options: Options) -> bool:
    """Whether a publishers' key is given (not derived) that public mode ignores, as anycable-go does."""
    key = _broadcast_key(options)
    return options.access.public and key is not None and not key.derived


def _broadcast_key(options: Options) -> Key | None:
    given = options.http_broadcast.secret or options.access.broadcast_key
    return _key(given, options.access.secret)


def _key(given: str, secret: str) -> Key | None:
    """The given key, or one derived from the application secret; "none" means no key."""
    if given == "none":
        return None
    if given:
        return Key(given, derived=False)
    return Key(secret, derived=True) if secret not in ("", "none") else None


def _shared(given: str, other: str | None) -> str | None:
    """The given key, or the other one without derivation; "none" means no key."""
    key = given or other
    return None if key in ("", "none") else key
