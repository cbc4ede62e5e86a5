"""Presets: the defaults of a place where the server runs.

They stand above the built-in defaults and below everything given. Found from the environment, as
anycable-go 1.6.16 finds them, unless ``presets`` names some (``none``: no preset at all).
Follows what anycable-go does: neither fly nor heroku moves the port of HTTP broadcasts. Otherwise
than there, what is given stays even where it is the default, and with Redis ``broker`` keeps things
there: nodes that share publications share what they keep, too.
"""

from collections.abc import Collection, Mapping
from typing import Final

from catenary.config.options import Value
from catenary.errors import ConfigError

FLY: Final = ("FLY_APP_NAME", "FLY_ALLOC_ID", "FLY_REGION")
HEROKU: Final = ("HEROKU_APP_ID", "HEROKU_DYNO_ID")


def detect(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The presets whose place this environment is."""
    return (
        *(("fly",) if all(environ.get(name) for name in FLY) else ()),
        *(("heroku",) if all(environ.get(name) for name in HEROKU) else ()),
    )


def values(
    names: Collection[str], given: Mapping[str, Value], environ: Mapping[str, str]
) -> dict[str, Value]:
    """The defaults that these presets change, by place (``server.host``).

    ``given`` are the values that sources give, by place: they are left alone. Raises
    :class:`catenary.errors.ConfigError` where a preset misses a variable of its place.
    """
    changed: dict[str, Value] = {}
    if "fly" in names:
        changed |= _fly(given, environ)
    if "heroku" in names:
        changed["server.host"] = "0.0.0.0"  # noqa: S104  (the router of the place comes from outside)
    if "broker" in names:
        # It builds on what stands so far, and leaves that alone, too.
        changed = _broker({**changed, **given}) | changed
    return {place: value for place, value in changed.items() if place not in given}


def beside_a_cable(given: Mapping[str, Value]) -> dict[str, Value]:
    """The defaults that change where the application is in this process: it publishes here, so Redis
    is listened to where somebody says so."""
    if {"broadcast.adapters", "redis.url", "redis.sentinels"} & given.keys():
        return {}
    return {"broadcast.adapters": ("http",)}


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
        # The same after a restart: JetStream counts a server with a new name as one more.
        changed["enats.server_name"] = f"fly-{region}-{environ['FLY_ALLOC_ID']}"
    application = environ.get("ANYCABLE_FLY_RPC_APP_NAME")
    if application:
        changed["rpc.host"] = f"dns:///{region}.{application}.internal:50051"
    return changed | _fly_pubsub(given)


def _fly_pubsub(given: Mapping[str, Value]) -> dict[str, Value]:
    """What nodes share publications by: Redis or NATS, if one is given, else embedded NATS."""
    broker = given.get("broker.adapter")
    # Who keeps things in the memory of a node, or says what carries publications, is left alone.
    is_open = "pubsub.adapter" not in given and broker != "memory"
    if broker == "redis" or ("redis.url" in given and broker != "nats"):
        return {"pubsub.adapter": "redis"} if is_open else {}
    has_servers = "nats.servers" in given
    if not is_open or not (has_servers or given.get("enats.enabled", True)):
        return {} if "redis.url" in given else {"broadcast.adapters": ("http",)}
    embedded: dict[str, Value] = {} if has_servers else {"enats.enabled": True}
    return {"pubsub.adapter": "nats", "broadcast.adapters": ("http", "nats"), **embedded}


def _broker(given: Mapping[str, Value]) -> dict[str, Value]:
    """One engine keeps and carries: what is given says which, else what is there."""
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
