"""Options of a cable inside another server: from keywords and the environment."""

import pytest

from catenary.config.hosted import load_hosted
from catenary.errors import ConfigError


def test_keywords_are_named_like_flags_and_override_the_environment() -> None:
    environ = {"ANYCABLE_BROKER": "memory", "ANYCABLE_PING_INTERVAL": "7", "ANYCABLE_MAX_CONN": "9"}
    options = load_hosted({"ping_interval": 5, "max_conn": 3}, environ)
    assert (options.broker.adapter, options.ping.interval_s, options.server.max_conn) == (
        "memory",
        5,
        3,
    )


@pytest.mark.parametrize(
    "keywords",
    [
        {"port": 1},
        {"ssl_cert": "c"},
        {"path": "/x"},
        {"log_level": "debug"},
        {"metrics_http": "/m"},
        {"ocpp_path": "/ocpp"},
        {"admin": True},
    ],
    ids=str,
)
def test_options_of_the_host_are_refused(keywords: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected no option of the server that hosts the cable"):
        load_hosted(keywords, {})


def test_options_of_the_host_in_a_shared_environment_are_ignored() -> None:
    environ = {"ANYCABLE_PORT": "1", "ANYCABLE_LOG_LEVEL": "debug", "ANYCABLE_PATH": "/x"}
    assert load_hosted({}, environ) == load_hosted({}, {})


def test_publications_arrive_through_adapters_that_are_named() -> None:
    assert load_hosted({}, {}).broadcast.adapters == ()
    assert load_hosted({"broadcast_adapter": "redisx"}, {}).broadcast.adapters == ("redisx",)
    environ = {"ANYCABLE_BROADCAST_ADAPTER": "nats"}
    assert load_hosted({}, environ).broadcast.adapters == ("nats",)
    with pytest.raises(ConfigError, match="got http: the port is the host's"):
        load_hosted({"broadcast_adapter": "http,redis"}, {})


def test_an_unknown_keyword() -> None:
    with pytest.raises(ConfigError, match="brokr"):
        load_hosted({"brokr": "memory"}, {})
