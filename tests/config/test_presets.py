"""Presets: when they apply, what they change, and that nothing given is changed."""

import pytest

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


def test_fly_without_redis() -> None:
    asked = request(environ={**FLY, "ANYCABLE_FLY_RPC_APP_NAME": "web"})
    assert asked.options.server.host == "0.0.0.0"
    assert asked.options.broadcast.adapters == ("http",)
    assert asked.options.rpc.host == "dns:///ams.web.internal:50051"
    assert ["presets: without Redis" in line for line in asked.warnings] == [True]


def test_fly_with_redis() -> None:
    asked = request(environ={**FLY, "REDIS_URL": "redis://r"})
    assert asked.options.broadcast.adapters == ("http", "redis")
    assert asked.options.rpc.host == "localhost:50051"
    assert asked.warnings == ()


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
