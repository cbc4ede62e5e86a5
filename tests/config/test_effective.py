"""Values that depend on other options."""

import pytest

from catenary.config.effective import Key, effective, keys, serves_api
from catenary.config.options import Value
from tests.config.sources import options, value

PUSHER_APPS = '[{"id":"a","key":"k","secret":"s"}]'


@pytest.mark.parametrize(
    ("argv", "place", "expected"),
    [
        (["--debug"], "log.level", "debug"),
        (["--debug", "--log_level=warn"], "log.level", "debug"),
        (["--log_level=warn"], "log.level", "warn"),
        (["--public"], "access.noauth", True),
        (["--public"], "streams.public", True),
        ([], "access.noauth", False),
        ([], "streams.public", False),
        ([], "rpc.implementation", "grpc"),
        (["--rpc_host=dns:///a:1"], "rpc.implementation", "grpc"),
        (["--rpc_host=http://a"], "rpc.implementation", "http"),
        (["--rpc_host=https://a"], "rpc.implementation", "http"),
        (["--rpc_host=http://a", "--norpc"], "rpc.implementation", "none"),
        ([], "rpc.request_timeout_ms", 0),
        (["--rpc_request_timeout=5"], "rpc.request_timeout_ms", 5),
        (["--http_rpc_timeout=7"], "rpc.request_timeout_ms", 0),
        (["--rpc_host=http://a"], "rpc.request_timeout_ms", 3000),
        (["--rpc_host=http://a", "--rpc_request_timeout=5"], "rpc.request_timeout_ms", 5),
        (
            ["--rpc_host=http://a", "--rpc_request_timeout=5", "--http_rpc_timeout=7"],
            "rpc.request_timeout_ms",
            7,
        ),
        ([], "rpc.enable_tls", False),
        (["--rpc_tls_root_ca=/ca.pem"], "rpc.enable_tls", True),
        (["--headers=X-Api,Cookie"], "rpc.proxy_headers", ("x-api", "cookie")),
        (["--pusher_app_id=a", "--pusher_app_key=k"], "broker.adapter", "memory"),
        ([f"--pusher_apps={PUSHER_APPS}"], "broker.adapter", "memory"),
        (["--pusher_app_id=a", "--pusher_app_key=k", "--broker=none"], "broker.adapter", "none"),
        (["--pusher_app_id=a", "--pusher_app_key=k", "--pubsub=redis"], "broker.adapter", ""),
        (["--pusher_app_id=a", "--pusher_app_key=k", "--workers=2"], "broker.adapter", ""),
        ([], "http_broadcast.port", 8090),
        (["--http_broadcast_port=1"], "http_broadcast.port", 1),
        (["--port=9", "--broadcast_key=k"], "http_broadcast.port", 9),
        (["--port=9", "--secret=s"], "http_broadcast.port", 9),
        (["--port=9", "--secret=s", "--public"], "http_broadcast.port", 9),
        (["--port=9", "--secret=s", "--broadcast_key=none"], "http_broadcast.port", 8090),
        (["--port=9", "--secret=none"], "http_broadcast.port", 8090),
        (["--allowed_origins=a,b"], "http_broadcast.cors_hosts", ("a", "b")),
        (["--port=9"], "metrics.port", 9),
        (["--port=9"], "api.port", 9),
        (["--port=9", "--api_port=1"], "api.port", 1),
        (["--host=::1"], "api.host", "::1"),
        (["--api_path=/x/"], "api.path", "/x"),
        (["--api_path=/"], "api.path", ""),
        (["--allowed_origins=a,b"], "api.cors_hosts", ("a", "b")),
        ([], "pubsub.adapter", ""),
        (["--pubsub=none"], "pubsub.adapter", ""),
        (["--broker=memory"], "pubsub.adapter", ""),
        (["--broker=redis"], "pubsub.adapter", "redis"),
        (["--broker=nats"], "pubsub.adapter", "nats"),
        (["--pubsub=redis"], "pubsub.adapter", "redis"),
        (["--workers=2"], "pubsub.adapter", "nats"),
        (["--workers=2"], "enats.enabled", True),
        (["--workers=2"], "enats.address", ""),
        (["--workers=2", "--broker=nats"], "enats.address", ""),
        (["--workers=2", "--broker=redis"], "enats.enabled", False),
        (["--workers=2", "--pubsub=redis"], "enats.enabled", False),
        (["--workers=2", "--pubsub=nats"], "enats.enabled", False),
        (["--workers=2", "--nats_servers=nats://a:1"], "enats.enabled", False),
        (["--workers=2", "--embed_nats"], "enats.address", "nats://127.0.0.1:4222"),
        (["--embed_nats"], "pubsub.adapter", ""),
    ],
)
def test_what_is_implied(argv: list[str], place: str, expected: Value) -> None:
    found = effective(options(*argv))
    assert value(found, place) == expected
    assert effective(found) == found


GIVEN = Key("k", derived=False)
DERIVED = Key("s", derived=True)


@pytest.mark.parametrize(
    ("argv", "broadcast", "rpc"),
    [
        ([], None, None),
        (["--secret=s"], DERIVED, DERIVED),
        (["--secret=none"], None, None),
        (["--broadcast_key=k"], GIVEN, None),
        (["--secret=s", "--broadcast_key=k"], GIVEN, DERIVED),
        (["--secret=s", "--broadcast_key=none"], None, DERIVED),
        (["--broadcast_key=x", "--http_broadcast_secret=k"], GIVEN, None),
        (["--secret=s", "--http_rpc_secret=k"], DERIVED, GIVEN),
        (["--secret=s", "--http_rpc_secret=none"], DERIVED, None),
        (["--secret=s", "--public"], None, DERIVED),
        (["--broadcast_key=k", "--public"], None, None),
    ],
)
def test_keys_of_publishers_and_applications(
    argv: list[str], broadcast: Key | None, rpc: Key | None
) -> None:
    given = options(*argv)
    assert (keys(given).broadcast, keys(given).rpc) == (broadcast, rpc)
    assert keys(effective(given)) == keys(given)


@pytest.mark.parametrize(
    ("argv", "key", "is_there"),
    [
        ([], None, False),
        (["--secret=none"], None, False),
        (["--secret=s", "--api_secret=none"], None, False),
        (["--api_port=8080"], None, False),
        (["--api_port=1"], None, True),
        (["--public"], None, True),
        (["--secret=s"], DERIVED, True),
        (["--secret=s", "--public"], DERIVED, True),
        (["--secret=s", "--api_secret=k"], GIVEN, True),
    ],
)
def test_the_api_is_protected_one_way_or_another(
    argv: list[str], key: Key | None, is_there: bool
) -> None:
    found = effective(options(*argv))
    assert (keys(found).api, serves_api(found)) == (key, is_there)


@pytest.mark.parametrize(
    ("argv", "tokens", "streams", "turbo", "cable_ready"),
    [
        ([], None, None, None, None),
        (["--secret=s"], "s", "s", "s", "s"),
        (["--secret=s", "--public"], "s", "s", "s", "s"),
        (["--secret=none"], None, None, None, None),
        (["--secret=s", "--jwt_secret=j"], "j", "s", "s", "s"),
        (["--secret=s", "--jwt_secret=none"], None, "s", "s", "s"),
        (["--jwt_id_key=j"], "j", None, None, None),
        (["--secret=s", "--streams_secret=k"], "s", "k", "k", "k"),
        (["--secret=s", "--streams_secret=none"], "s", None, None, None),
        (["--streams_secret=k", "--turbo_streams_secret=t"], None, "k", "t", "k"),
        (["--streams_secret=k", "--turbo_streams_secret=none"], None, "k", None, "k"),
        (["--streams_secret=k", "--cable_ready_secret=c"], None, "k", "k", "c"),
        (["--turbo_rails_key=t", "--cable_ready_key=c"], None, None, "t", "c"),
    ],
)
def test_keys_of_clients(
    argv: list[str],
    tokens: str | None,
    streams: str | None,
    turbo: str | None,
    cable_ready: str | None,
) -> None:
    """The application secret as it is, not one derived from it."""
    found = keys(options(*argv))
    assert (found.tokens, found.streams) == (tokens, streams)
    assert (found.turbo, found.cable_ready) == (turbo, cable_ready)
