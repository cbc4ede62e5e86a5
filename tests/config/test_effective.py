"""What options imply about each other."""

import pytest

from catenary.config.effective import Key, Keys, effective, keys
from catenary.config.options import Value
from tests.config.sources import options, value


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
        ([], "http_broadcast.port", 8090),
        (["--http_broadcast_port=1"], "http_broadcast.port", 1),
        (["--port=9", "--broadcast_key=k"], "http_broadcast.port", 9),
        (["--port=9", "--secret=s"], "http_broadcast.port", 9),
        (["--port=9", "--secret=s", "--public"], "http_broadcast.port", 9),
        (["--port=9", "--secret=s", "--broadcast_key=none"], "http_broadcast.port", 8090),
        (["--port=9", "--secret=none"], "http_broadcast.port", 8090),
        (["--allowed_origins=a,b"], "http_broadcast.cors_hosts", ("a", "b")),
        (["--port=9"], "metrics.port", 9),
    ],
)
def test_what_is_implied(argv: list[str], place: str, expected: Value) -> None:
    found = effective(options(*argv))
    assert value(found, place) == expected
    assert effective(found) == found


NONE = Keys(broadcast=None, rpc=None)
GIVEN = Key("k", derived=False)
DERIVED = Key("s", derived=True)


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ([], NONE),
        (["--secret=s"], Keys(broadcast=DERIVED, rpc=DERIVED)),
        (["--secret=none"], NONE),
        (["--broadcast_key=k"], Keys(broadcast=GIVEN, rpc=None)),
        (["--secret=s", "--broadcast_key=k"], Keys(broadcast=GIVEN, rpc=DERIVED)),
        (["--secret=s", "--broadcast_key=none"], Keys(broadcast=None, rpc=DERIVED)),
        (["--broadcast_key=x", "--http_broadcast_secret=k"], Keys(broadcast=GIVEN, rpc=None)),
        (["--secret=s", "--http_rpc_secret=k"], Keys(broadcast=DERIVED, rpc=GIVEN)),
        (["--secret=s", "--http_rpc_secret=none"], Keys(broadcast=DERIVED, rpc=None)),
        (["--secret=s", "--public"], Keys(broadcast=None, rpc=DERIVED)),
        (["--broadcast_key=k", "--public"], NONE),
    ],
)
def test_keys(argv: list[str], found: Keys) -> None:
    given = options(*argv)
    assert keys(given) == found
    assert keys(effective(given)) == found
