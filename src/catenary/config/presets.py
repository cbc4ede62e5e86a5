"""Presets: sets of defaults, for a platform or for a purpose.

They override the built-in defaults, and every given value overrides them. They are detected from the
environment as in anycable-go 1.6.16, unless ``presets`` names some (``none``: no preset).
As there, neither fly nor heroku changes the port of HTTP broadcasts. Unlike there, a given value stays even
if it equals the default, and ``broker`` with Redis stores in Redis, so that nodes share histories and sessions.
"""

from collections.abc import Collection, Mapping
from typing import Final

from catenary.config.options import Value
from catenary.errors import ConfigError

FLY: Final = ("FLY_APP_NAME", "FLY_ALLOC_ID", "FLY_REGION")
HEROKU: Final = ("HEROKU_APP_ID", "HEROKU_DYNO_ID")


def detect(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The presets of the platform that this environment belongs to."""
    return (
        *(("fly",) if all(environ.get(name) for name in FLY) else ()),
        *(("heroku",) if all(environ.get(name) for name in HEROKU) else ()),
    )


def values(
    names: Collection[str], given: Mapping[str, Value], environ: Mapping[str, str]
) -> dict[str, Value]:
    """The defaults that these presets change, by place (``server.host``).

    ``given`` are the values of all sources, by place; they are not changed. Raises
    :class:`catenary.errors.ConfigError` if a variable of the platform is missing.
    """
    changed: dict[str, Value] = {}
    if "fly" in names:
        changed |= _fly(given, environ)
    if "heroku" in names:
        changed["server.host"] = "0.0.0.0"  # noqa: S104  (the platform's router connects from outside)
    if "broker" in names:
        # Builds on the presets above and does not change them either.
        changed = _broker({**changed, **given}) | changed
    return {place: value for place, value in changed.items() if place not in given}


def beside_a_cable(given: Mapping[str, Value]) -> dict[str, Value]:
    """The defaults that change if the application runs in this process: it publishes directly, so Redis is
    only read if an option names it."""
    if {"broadcast.adapters", "redis.url", "redis.sentinels"} & given.keys():
        return {}
    return {"broadcast.adapters": ("http",)}


def in_public_mode(given: Mapping[str, Value]) -> dict[str, Value]:
    """The defaults that change in public mode: the console is on, because it permits nothing
    that is not public already."""
    if not given.get("access.public") or "admin.enabled" in given:
        return {}
    return {"admin.enabled": True}


def _fly(given: Mapping[str, Value], environ: Mapping[str, str]) -> dict[str, Value]:
    for name in ("FLY_REGION", "FLY_APP_NAME"):
        if not environ.get(name):
            raise ConfigError(f"presets: fly: expected {name} in the environment, got nothing")
    region, name = environ["FLY_REGION"], environ["FLY_APP_NAME"]
    changed: dict[str, Value] = {
        "server.host": "0.0.0.0",  # noqa: S104
        "enats.address": "nats://0.0.0.0:4222",
        "enats.cluster_address": "nats://0.0.0.0:5222",
        "enats.cluster_name": f"{name}-{region}-cluster",
        "enats.gateway_advertise": f"{region}.{name}.internal:7222",
    }
    if given.get("enats.cluster_address") != "":
        changed["enats.routes"] = (f"nats://{region}.{name}.internal:5222",)
    if environ.get("FLY_ALLOC_ID"):
        # Stable across restarts: JetStream counts a server with a new name as an additional one.
        changed["enats.server_name"] = f"fly-{region}-{environ['FLY_ALLOC_ID']}"
    application = environ.get("ANYCABLE_FLY_RPC_APP_NAME")
    if application:
        changed["rpc.host"] = f"dns:///{region}.{application}.internal:50051"
    return changed | _fly_pubsub(given)


def _fly_pubsub(given: Mapping[str, Value]) -> dict[str, Value]:
    """Pub/sub between nodes: Redis or NATS if one is given, else embedded NATS."""
    broker = given.get("broker.adapter")
    # Neither a broker in memory nor a given pub/sub is overridden.
    is_open = "pubsub.adapter" not in given and broker != "memory"
    if broker == "redis" or ("redis.url" in given and broker != "nats"):
        return {"pubsub.adapter": "redis"} if is_open else {}
    has_servers = "nats.servers" in given
    if not is_open or not (has_servers or given.get("enats.enabled", True)):
        return {} if "redis.url" in given else {"broadcast.adapters": ("http",)}
    embedded: dict[str, Value] = {} if has_servers else {"enats.enabled": True}
    return {"pubsub.adapter": "nats", "broadcast.adapters": ("http", "nats"), **embedded}


def _broker(given: Mapping[str, Value]) -> dict[str, Value]:
    """Broker and pub/sub on one engine: the given one, else the one that has an address."""
    has_nats, has_redis = given.get("enats.enabled") is True, "redis.url" in given
    by_default = "nats" if has_nats else "redis" if has_redis else "memory"
    engine = next(
        (
            value
            for value in (given.get("broker.adapter"), given.get("pubsub.adapter"))
            if value in ("memory", "nats", "redis")
        ),
        by_default,
    )
    adapters = (
        ("http", "nats") if has_nats else ("http", "redisx", "redis") if has_redis else ("http",)
    )
    return {
        "broker.adapter": engine,
        "broadcast.adapters": adapters,
        **({} if engine == "memory" else {"pubsub.adapter": engine}),
    }
