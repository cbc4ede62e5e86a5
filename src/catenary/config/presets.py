"""Presets: the defaults of a place where the server runs.

They stand above the built-in defaults and below everything given. Found from the environment, as
anycable-go 1.6.16 finds them, unless ``presets`` names some (``none``: no preset at all).
Follows what anycable-go does: neither fly nor heroku moves the port of HTTP broadcasts. The parts
of ``fly`` that set up NATS, and the ``broker`` preset, need features of later versions.
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
        *(("fly",) if all(name in environ for name in FLY) else ()),
        *(("heroku",) if all(name in environ for name in HEROKU) else ()),
    )


def values(
    names: Collection[str], given: Collection[str], environ: Mapping[str, str]
) -> dict[str, Value]:
    """The defaults that these presets change, by place (``server.host``).

    ``given`` are the places that a source gives a value: they are left alone. Raises
    :class:`catenary.errors.ConfigError` where a preset misses a variable of its place.
    """
    changed: dict[str, Value] = {}
    if "fly" in names:
        changed |= _fly(given, environ)
    if "heroku" in names:
        changed["server.host"] = "0.0.0.0"  # noqa: S104  (the router of the place comes from outside)
    return {place: value for place, value in changed.items() if place not in given}


def _fly(given: Collection[str], environ: Mapping[str, str]) -> dict[str, Value]:
    for name in ("FLY_REGION", "FLY_APP_NAME"):
        if name not in environ:
            raise ConfigError(f"presets: fly: expected {name} in the environment, got nothing")
    changed: dict[str, Value] = {"server.host": "0.0.0.0"}  # noqa: S104
    if "redis.url" not in given:
        changed["broadcast.adapters"] = ("http",)
    application = environ.get("ANYCABLE_FLY_RPC_APP_NAME")
    if application is not None:
        region = environ["FLY_REGION"]
        changed["rpc.host"] = f"dns:///{region}.{application}.internal:50051"
    return changed
