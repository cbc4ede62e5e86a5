"""Presets: when they apply, what they change, and that nothing given is changed."""

import pytest

from catenary.config.load import load
from catenary.config.options import EnatsOptions
from catenary.config.presets import detect
from catenary.errors import ConfigError
from tests.config.sources import options, request

FLY = {"FLY_APP_NAME": "cable", "FLY_ALLOC_ID": "1", "FLY_REGION": "ams"}
HEROKU = {"HEROKU_APP_ID": "1", "HEROKU_DYNO_ID": "2"}


@pytest.mark.parametrize(
    ("environ", "found"),
    [({}, ()), (FLY, ("fly",)), (HEROKU, ("heroku",)), ({**FLY, **HEROKU}, ("fly", "heroku"))],
)
def test_places_are_found(environ: dict[str, str], found: tuple[str, ...]) -> None:
    assert detect(environ) == found
    assert request(environ=environ).presets == found


@pytest.mark.parametrize("missing", [*FLY, *HEROKU])
def test_a_place_needs_all_of_its_variables(missing: str) -> None:
    place = FLY if missing in FLY else HEROKU
    assert detect({name: place[name] for name in place if name != missing}) == ()


def test_heroku_listens_everywhere_and_leaves_the_broadcast_port() -> None:
    found = options(environ={**HEROKU, "PORT": "5000"})
    assert (found.server.host, found.server.port, found.http_broadcast.port) == ("0.0.0.0", 5000, 0)


def test_fly_without_redis_embeds_nats() -> None:
    asked = request(environ={**FLY, "ANYCABLE_FLY_RPC_APP_NAME": "web"})
    found = asked.options
    assert asked.warnings == ()
    assert found.server.host == "0.0.0.0"
    assert found.rpc.host == "dns:///ams.web.internal:50051"
    assert found.pubsub.adapter == "nats"
    assert found.broadcast.adapters == ("http", "nats")
    assert found.enats == EnatsOptions(
        enabled=True,
        server_name="fly-ams-1",
        address="nats://0.0.0.0:4222",
        cluster_address="nats://0.0.0.0:5222",
        cluster_name="cable-ams-cluster",
        routes=("nats://ams.cable.internal:5222",),
        gateway_advertise="ams.cable.internal:7222",
    )


def test_fly_with_redis() -> None:
    found = options(environ={**FLY, "REDIS_URL": "redis://r"})
    assert found.broadcast.adapters == ("http", "redis")
    assert found.rpc.host == "localhost:50051"
    assert found.pubsub.adapter == "redis"
    assert not found.enats.enabled


@pytest.mark.parametrize(
    ("argv", "enabled", "pubsub", "adapters"),
    [
        (["--nats_servers=nats://n"], False, "nats", ("http", "nats")),
        (["--nats_servers=nats://n", "--embed_nats"], True, "nats", ("http", "nats")),
        (["--embed_nats=false"], False, "", ("http",)),
        (["--pubsub=none"], False, "none", ("http",)),
        (["--broker=memory"], False, "", ("http",)),
        (["--broker=nats"], True, "nats", ("http", "nats")),
        (["--broker=memory", "--redis_url=redis://r"], False, "", ("http", "redis")),
        (["--broker=redis"], False, "redis", ("http", "redis")),
        (["--broker=nats", "--redis_url=redis://r"], True, "nats", ("http", "nats")),
        (["--pubsub=nats", "--redis_url=redis://r"], False, "nats", ("http", "redis")),
        (["--broadcast_adapter=http"], True, "nats", ("http",)),
        (["--enats_cluster="], True, "nats", ("http", "nats")),
        (["--presets=fly,broker"], True, "nats", ("http", "nats")),
    ],
)
def test_fly_heeds_what_is_given(
    argv: list[str], enabled: bool, pubsub: str, adapters: tuple[str, ...]
) -> None:
    found = options(*argv, environ=FLY)
    assert found.enats.enabled == enabled
    assert found.pubsub.adapter == pubsub
    assert found.broadcast.adapters == adapters


def test_fly_without_a_machine_leaves_the_name_of_the_server_open() -> None:
    environ = {name: FLY[name] for name in ("FLY_APP_NAME", "FLY_REGION")}
    assert options("--presets=fly", environ=environ).enats.server_name == ""


@pytest.mark.parametrize(
    ("argv", "broker", "pubsub", "adapters"),
    [
        ([], "memory", "", ("http",)),
        (["--embed_nats"], "nats", "nats", ("http", "nats")),
        (["--redis_url=redis://r"], "redis", "redis", ("http", "redisx", "redis")),
        (["--embed_nats", "--redis_url=redis://r"], "nats", "nats", ("http", "nats")),
        (["--embed_nats", "--pubsub=redis"], "redis", "redis", ("http", "nats")),
        (["--embed_nats", "--broker=redis"], "redis", "redis", ("http", "nats")),
        (["--redis_url=redis://r", "--broker=memory"], "memory", "", ("http", "redisx", "redis")),
        (["--embed_nats", "--broadcast_adapter=http"], "nats", "nats", ("http",)),
    ],
)
def test_broker_takes_what_is_there(
    argv: list[str], broker: str, pubsub: str, adapters: tuple[str, ...]
) -> None:
    asked = request("--presets=broker", *argv)
    assert asked.presets == ("broker",)
    found = asked.options
    assert found.broker.adapter == broker
    assert found.pubsub.adapter == pubsub
    assert found.broadcast.adapters == adapters


def test_broker_builds_on_the_place() -> None:
    found = options("--presets=fly,broker", environ=FLY)
    assert (found.broker.adapter, found.pubsub.adapter) == ("nats", "nats")
    found = options("--presets=broker,fly", environ={**FLY, "REDIS_URL": "redis://r"})
    assert (found.broker.adapter, found.pubsub.adapter) == ("redis", "redis")
    assert found.server.host == "0.0.0.0"


def test_what_is_given_stays_even_where_it_is_the_default() -> None:
    asked = request(
        "--host=localhost",
        environ={**FLY, "ANYCABLE_FLY_RPC_APP_NAME": "web", "ANYCABLE_RPC_HOST": "r:1"},
        files={"./anycable.toml": "broadcast_adapters = ['http', 'redis']"},
    )
    found = asked.options
    assert asked.warnings == ()
    assert found.server.host == "localhost"
    assert found.rpc.host == "r:1"
    assert found.broadcast.adapters == ("http", "redis")


def test_none_turns_presets_off() -> None:
    asked = request("--presets=none", environ=FLY)
    assert (asked.presets, asked.options.server.host) == ((), "localhost")


def test_an_empty_list_of_presets_is_found_from_the_environment() -> None:
    assert request("--presets=", environ={**FLY, "ANYCABLE_PRESETS": ""}).presets == ("fly",)


def test_named_presets_replace_those_found() -> None:
    asked = request("--presets=heroku", environ=FLY)
    assert (asked.presets, asked.options.broadcast.adapters) == (("heroku",), ("http", "redis"))


def test_fly_elsewhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected FLY_REGION in the environment, got nothing"):
        options("--presets=fly")


def test_beside_a_cable_redis_is_listened_to_where_somebody_says_so() -> None:
    def adapters(*argv: str, **environ: str) -> tuple[str, ...]:
        return load(argv, environ, lambda path: None, with_cable=True).options.broadcast.adapters

    assert adapters() == ("http",)
    assert adapters("--redis_url=redis://r") == adapters(REDIS_URL="redis://r") == ("http", "redis")
    assert adapters("--broadcast_adapter=redis") == ("redis",)
    assert adapters("--presets=broker", "--redis_url=redis://r") == ("http", "redisx", "redis")
