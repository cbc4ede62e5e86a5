"""Settings of a server, from the environment variables of another process."""

import pytest

from catenary.channels.environment_settings import EnvironmentSettings, publisher_from_environment
from catenary.channels.publishers.http import HttpPublisher
from catenary.channels.publishers.nats import NatsPublisher
from catenary.channels.publishers.redis import RedisPublisher, RedisStreamPublisher
from catenary.errors import ConfigError


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, HttpPublisher),
        ({"ANYCABLE_SECRET": "s", "ANYCABLE_SSE": "true", "PORT": "x"}, HttpPublisher),
        ({"ANYCABLE_BROADCAST_ADAPTER": ""}, HttpPublisher),
        ({"ANYCABLE_BROADCAST_ADAPTER": "http"}, HttpPublisher),
        ({"ANYCABLE_BROADCAST_ADAPTER": "redisx,http"}, RedisStreamPublisher),
        ({"ANYCABLE_BROADCAST_ADAPTER": "nats"}, NatsPublisher),
        ({"ANYCABLE_HTTP_BROADCAST_URL": "http://h/_broadcast"}, HttpPublisher),
        ({"REDIS_URL": "redis://h"}, RedisPublisher),
        ({"ANYCABLE_REDIS_URL": "rediss://h", "ANYCABLE_REDIS_SENTINELS": "a:1"}, RedisPublisher),
        ({"ANYCABLE_NATS_SERVERS": "nats://a,nats://b"}, NatsPublisher),
    ],
)
def test_variables_choose_the_publisher(environ: dict[str, str], kind: type[object]) -> None:
    found = publisher_from_environment(environ)
    assert type(found) is kind
    found.close()


def test_invalid_variables_are_refused() -> None:
    with pytest.raises(ConfigError, match="ANYCABLE_BROADCAST_ADAPTER"):
        EnvironmentSettings({"ANYCABLE_BROADCAST_ADAPTER": "pigeon"})


def test_the_default_broadcast_url_depends_on_the_secret() -> None:
    secret = {"ANYCABLE_SECRET": "s"}
    for environ, place in (
        ({}, "8090/_broadcast"),
        (secret, "8080/_broadcast"),
        ({"ANYCABLE_HTTP_BROADCAST_PORT": "9090"}, "9090/_broadcast"),
        ({**secret, "ANYCABLE_PORT": "9000"}, "9000/_broadcast"),
        ({"ANYCABLE_HTTP_BROADCAST_PATH": "/here"}, "8090/here"),
    ):
        for named in ({}, {"ANYCABLE_BROADCAST_ADAPTER": "http"}):
            found = EnvironmentSettings({**named, **environ}).publisher()
            assert isinstance(found, HttpPublisher)
            assert str(found._address) == f"http://localhost:{place}"
            found.close()


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, "8080/api"),
        ({"ANYCABLE_PORT": "9000"}, "9000/api"),
        ({"ANYCABLE_API_PORT": "9001", "ANYCABLE_API_PATH": "/v1"}, "9001/v1"),
    ],
)
def test_the_default_api_url(environ: dict[str, str], place: str) -> None:
    assert str(EnvironmentSettings(environ).reader()._address) == f"http://localhost:{place}"
