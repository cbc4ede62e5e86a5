"""Options that are refused before the server starts: features that are not built, contradictions; and warnings."""

import pytest

from catenary.config.options import Options
from tests.config.sources import options, refused, request

UNBUILT = (
    "this option is not available in this version; read the metrics from the lines of log_format=json,"
    " which need no formatter"
)


def test_what_is_not_built_is_refused_from_every_source() -> None:
    line = refused("--metrics_log_formatter=x.rb")
    assert line == f"--metrics_log_formatter: {UNBUILT}"
    variable = "ANYCABLE_METRICS_LOG_FORMATTER"
    assert refused(environ={variable: "x.rb"}) == f"{variable}: {UNBUILT}"


def test_a_higher_source_can_take_back_what_is_not_built() -> None:
    environ = {"ANYCABLE_METRICS_LOG_FORMATTER": "x.rb"}
    assert options("--metrics_log_formatter=", environ=environ) == Options()


@pytest.mark.parametrize(
    ("argv", "range_and_value"),
    [
        (["--rpc_concurrency_initial=4"], "(5 to 100), got 4"),
        (["--rpc_concurrency_initial=101"], "(5 to 100), got 101"),
        (["--rpc_concurrency_min=9", "--rpc_concurrency_max=8"], "(9 to 8), got 25"),
    ],
)
def test_an_adaptive_concurrency_begins_within_its_bounds(
    argv: list[str], range_and_value: str
) -> None:
    assert refused("--rpc_concurrency=0", *argv) == (
        "rpc_concurrency_initial: expected a value from rpc_concurrency_min to rpc_concurrency_max "
        + range_and_value
    )
    assert options(*argv).rpc.concurrency == 28, "the bounds of what is not used"


@pytest.mark.parametrize(
    "argv",
    [
        ["--broker="],
        ["--broker=none"],
        ["--pubsub=none"],
        ["--admin=false"],
        ["--history_ttl=300"],
        ["--port=9000", "--metrics_port=9000"],
        ["--secret=x", "--pusher_secret=x"],
        ["--turbo_rails_cleartext"],
        ["--metrics_log_interval=0"],
    ],
)
def test_what_asks_for_nothing_is_accepted(argv: list[str]) -> None:
    assert request(*argv).action == "serve"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--handover_socket=h", "--embed_nats"],
            "handover_socket: expected a NATS server of its own (nats_servers), got an embedded one (embed_nats), whose "
            "port two servers can't share",
        ),
        (["--ssl_cert=c"], "ssl_cert: expected ssl_key beside it, got ssl_cert alone"),
        (["--ssl_key=k"], "ssl_key: expected ssl_cert beside it, got ssl_key alone"),
        (
            ["--redis_tls_client_key_path=k"],
            "redis_tls_client_key_path: expected redis_tls_client_cert_path beside it,"
            " got redis_tls_client_key_path alone",
        ),
        (
            ["--rpc_impl=http", "--rpc_host=u:hush@a"],
            "rpc_host: expected an http:// or https:// URL for rpc_impl=http, got something else",
        ),
        (["--path=/a,b"], "path: expected a path that begins with /, got 'b'"),
        (
            ["--allowed_origins=https://a.test, b.*.test"],
            "allowed_origins: expected a host such as example.com, *.example.com or localhost:3000,"
            " or https://example.com, got 'b.*.test'",
        ),
        (
            ["--ds"],
            "ds: expected a broker, whose history durable streams read (--presets=broker), got none",
        ),
        (["--ds_write", "--broker=memory"], "ds_write: expected ds beside it, got ds_write alone"),
        (
            ["--ds", "--broker=memory", "--ds_path=/{a}/ds"],
            "ds_path: expected a path without wildcards, not /, got '/{a}/ds'",
        ),
        (
            ["--ds", "--broker=memory", "--history_ttl=0"],
            "ds: expected a history_limit and a history_ttl above 0, got no history",
        ),
        (
            ["--nats_creds_path=a", "--nats_nkey_path=b"],
            "nats_creds_path: expected nats_creds_path or nats_nkey_path, got both",
        ),
        (
            ["--nats_jetstream_domain=a", "--nats_jetstream_api_prefix=b"],
            "nats_jetstream_domain: expected nats_jetstream_domain or nats_jetstream_api_prefix, got both",
        ),
        (
            ["--nats_tls_client_cert_path=a"],
            "nats_tls_client_cert_path: expected nats_tls_client_key_path beside it, got "
            "nats_tls_client_cert_path alone",
        ),
        (
            ["--nats_inbox_prefix=a.>"],
            "nats_inbox_prefix: expected words with dots between them and without spaces or wildcards, got 'a.>'",
        ),
        (
            ["--nats_creds_path=a", "--embed_nats"],
            "nats_creds_path: expected nats_servers beside it, got embed_nats, whose users have none",
        ),
        (
            ["--nats_nkey_path=a", "--nats_servers=nats://u:p@h"],
            "nats_nkey_path: expected nats_servers without a user, got another user there",
        ),
        (
            ["--ds", "--ds_write", "--broker=nats", "--secret=s"],
            "ds_write: expected broker=memory or broker=redis, got nats",
        ),
        (
            ["--ds", "--ds_write", "--broker=memory"],
            "ds_write: expected a key that writers need (secret, api_secret or streams_secret),"
            " got none",
        ),
        (
            ["--statsd_host=a", "--statsd_prefix=a:b"],
            "statsd_prefix: expected text without spaces and without any of : | # ; , =, got 'a:b'",
        ),
        (
            ["--statsd_host=a:b"],
            "statsd_host: expected HOST:PORT, got a port that is not from 1 to 65535",
        ),
        (["--ds_path=ds"], "ds_path: expected a path that begins with /, got 'ds'"),
        (["--ocpp_path=ocpp"], "ocpp_path: expected a path that begins with /, got 'ocpp'"),
        (
            ["--ocpp_path=/"],
            "ocpp_path: expected a prefix of its own, such as /ocpp, got '/', below which health-path"
            " is: '/health'",
        ),
        (
            ["--ocpp_path=/api"],
            "ocpp_path: expected a prefix of its own, such as /ocpp, got '/api', below which api_path"
            " is: '/api/publish'",
        ),
        (["--health-path=h"], "health-path: expected a path that begins with /, got 'h'"),
        (
            ["--http_broadcast_path="],
            "http_broadcast_path: expected a path that begins with /, got ''",
        ),
        *(
            (
                argv,
                "enforce_jwt: expected a key to check tokens with, such as jwt_secret, got none",
            )
            for argv in (
                ["--enforce_jwt"],
                ["--enforce_jwt", "--secret=none"],
                ["--enforce_jwt", "--secret=s", "--jwt_secret=none"],
            )
        ),
        (["--jwt_param="], "jwt_param: expected letters, digits, - and _, got ''"),
        (["--jwt_param=a b"], "jwt_param: expected letters, digits, - and _, got 'a b'"),
        (
            ["--jwt_jwks_url=file:///etc/passwd"],
            "jwt_jwks_url: expected http(s)://…, got 'file:///etc/passwd'",
        ),
        (["--graphql_path=gql"], "graphql_path: expected a path that begins with /, got 'gql'"),
        (
            ["--graphql_path=/cable"],
            "graphql_path: expected a path of its own, got '/cable', which the option path has, too",
        ),
        (
            ["--poll", "--sse", "--poll_path=/events"],
            "poll_path: expected a path of its own, got '/events', which the option sse_path has, too",
        ),
        (
            ["--ds", "--broker=memory", "--ds_path=/cable/"],
            "ds_path: expected a path of its own, got '/cable', which the option path has, too",
        ),
        (
            ["--sse", "--sse_path=/health"],
            "health-path: expected a path of its own, got '/health', which the option sse_path has, too",
        ),
        (
            ["--metrics_http=/m", "--metrics_tags=ok:1,my-tag:x"],
            "metrics_tags: expected names of letters, digits and _ for Prometheus (metrics_http), not beginning with"
            " a digit or __, and not le, got 'my-tag'",
        ),
        (
            ["--metrics_http=/m", "--metrics_tags=ok:1,1st:x"],
            "metrics_tags: expected names of letters, digits and _ for Prometheus (metrics_http), not beginning with"
            " a digit or __, and not le, got '1st'",
        ),
        (
            ["--metrics_http=/m", "--metrics_tags=ok:1,__name:x"],
            "metrics_tags: expected names of letters, digits and _ for Prometheus (metrics_http), not beginning with"
            " a digit or __, and not le, got '__name'",
        ),
        (
            ["--metrics_http=/m", "--metrics_tags=ok:1,le:x"],
            "metrics_tags: expected names of letters, digits and _ for Prometheus (metrics_http), not beginning with"
            " a digit or __, and not le, got 'le'",
        ),
        (
            ["--metrics_http=/m", "--metrics_tags=a:1,b:2,a:3"],
            "metrics_tags: expected each name once, got one twice",
        ),
        (
            ["--metrics_http=/m", "--workers=2", "--metrics_host=127.0.0.1"],
            "metrics_host: expected a metrics_port of its own for another host with more than one worker, because"
            " workers share the ports of one address, got the port of others",
        ),
        (
            ["--metrics_http=/cable"],
            "metrics_http: expected a path of its own, got '/cable', which the option path has, too",
        ),
        (
            ["--metrics_http=/health"],
            "metrics_http: expected a path of its own, got '/health', which the option health-path has, too",
        ),
        (
            [
                "--metrics_http=/m",
                "--metrics_port=9000",
                "--admin",
                "--admin_secret=s",
                "--admin_port=9000",
                "--admin_path=/m",
            ],
            "admin_path: expected a path of its own, got '/m', which the option metrics_http has, too",
        ),
        (
            ["--secret=s", "--broadcast_adapter=http", "--http_broadcast_path=/cable"],
            "http_broadcast_path: expected a path of its own, got '/cable', which the option path has, too",
        ),
        (
            ["--graphql_path=/graphql", "--graphql_idle_timeout=0"],
            "graphql_idle_timeout: expected 1 or more seconds, got 0",
        ),
        (
            ["--graphql_path=/graphql", "--graphql_action="],
            "graphql_action: expected a name, got an empty one",
        ),
    ],
)
def test_options_that_do_not_go_together(argv: list[str], line: str) -> None:
    assert refused(*argv) == line


@pytest.mark.parametrize(
    "key", ["--secret=s", "--jwt_secret=s", "--jwt_public_key=k.pem", "--jwt_jwks_url=https://a/"]
)
def test_tokens_can_be_enforced_where_they_can_be_checked(key: str) -> None:
    assert options("--enforce_jwt", key).jwt.enforce


@pytest.mark.parametrize(
    "argv",
    [
        ["--poll_path=/cable"],
        ["--sse_path=/cable"],
        ["--path=/a,/a"],
        ["--health-path=/ready"],
        ["--metrics_http=/cable", "--metrics_port=9090"],
        ["--metrics_tags=my-tag:x"],
        ["--metrics_http=/m", "--metrics_tags=env:x,_b2:le,level:1"],
        ["--metrics_http=/m", "--workers=2", "--metrics_port=9090", "--metrics_host=127.0.0.1"],
        ["--broadcast_adapter=http", "--http_broadcast_path=/cable"],
    ],
    ids=str,
)
def test_one_path_twice_is_accepted_where_one_feature_serves_it_at_each_port(
    argv: list[str],
) -> None:
    assert options(*argv).server.port == 8080


def test_options_that_go_together() -> None:
    found = options("--ssl_cert=c", "--ssl_key=k", "--rpc_impl=http", "--rpc_host=https://a")
    assert (found.server.ssl_cert, found.server.ssl_key) == ("c", "k")


def test_what_needs_a_broker_is_said_to_have_no_effect() -> None:
    given = ("--history_limit=500", "--presence_ttl=15")  # the second is the default
    environ = {"ANYCABLE_SESSIONS_TTL": "60"}
    assert sorted(request(*given, environ=environ).warnings) == [
        "--history_limit has no effect without a broker (--presets=broker)",
        "ANYCABLE_SESSIONS_TTL has no effect without a broker (--presets=broker)",
    ]
    for broker in ("--broker=memory", "--presets=broker"):
        assert request(*given, broker, environ=environ).warnings == ()


def test_a_broker_that_pusher_s_clients_bring_has_options() -> None:
    flags = ("--pusher_app_id=a", "--pusher_app_key=k", "--history_ttl=7")
    assert request(*flags).warnings == ()
    assert len(request("--history_ttl=7").warnings) == 1


@pytest.mark.parametrize(
    ("flag", "needs", "on"),
    [
        (
            "--metrics_port=9090",
            "a path that serves metrics (--metrics_http=/metrics)",
            "--metrics_http=/m",
        ),
        (
            "--metrics_host=::1",
            "a path that serves metrics (--metrics_http=/metrics)",
            "--metrics_http=/m",
        ),
        ("--statsd_prefix=x.", "a StatsD server (--statsd_host)", "--statsd_host=localhost"),
        ("--otel_sample_ratio=1", "tracing (--otel)", "--otel"),
        ("--sse_path=/s", "event streams (--sse)", "--sse"),
        ("--poll_path=/p", "long polling (--poll)", "--poll"),
        ("--ds_path=/d", "Durable Streams (--ds)", "--ds --broker=memory"),
        ("--admin_port=9000", "the console (--admin)", "--public"),
    ],
)
def test_options_of_a_part_that_is_off_are_said_to_have_no_effect(
    flag: str, needs: str, on: str
) -> None:
    name = flag.partition("=")[0]
    assert request(flag).warnings == (f"{name} has no effect without {needs}",)
    assert request(flag, *on.split()).warnings == ()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--admin"],
            "admin: expected a key for the console (admin_secret), or public mode, got no key",
        ),
        (
            ["--admin", "--admin_secret=none"],
            "admin: expected a key for the console (admin_secret), or public mode, got no key",
        ),
        (
            ["--admin", "--secret=application"],
            "admin: expected a key for the console (admin_secret), or public mode, got no key",
        ),
        (
            ["--public", "--admin_path=/"],
            "admin_path: expected a path without wildcards, not /, got '/'",
        ),
        (["--admin_path=x"], "admin_path: expected a path that begins with /, got 'x'"),
        (
            ["--public", "--admin_path=/cable"],
            "admin_path: expected a path of its own, got '/cable', which the option path has, too",
        ),
        (
            ["--public", "--admin_path=/a%2fb"],
            "admin_path: expected a path without wildcards, not /, got '/a%2fb'",
        ),
        (
            ["--public", "--admin_path=/api"],
            "admin_path: expected a path of its own, got '/api', below which api_path is: '/api/publish'",
        ),
        (
            ["--public", "--admin_path=/a/", "--health-path=/a/b"],
            "admin_path: expected a path of its own, got '/a', below which health-path is: '/a/b'",
        ),
        (
            ["--public", "--admin_path=/health"],
            "admin_path: expected a path of its own, got '/health', which the option health-path has, too",
        ),
    ],
)
def test_the_console_needs_a_key_and_a_path(argv: list[str], line: str) -> None:
    assert refused(*argv) == line


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/a//b", "/a?b", "/a#b", "/a b", "/a\nb", "/..", "/a/../b", "/a/.", "/./a"],
)
def test_a_path_that_nobody_can_request_is_refused(path: str) -> None:
    for name in ("admin_path", "health-path", "path"):
        assert refused(f"--{name}={path}", "--public").startswith(
            f"{name}: expected a path that clients can request"
        )


def test_a_console_beside_another_path() -> None:
    assert options("--public", "--admin_path=/api2").admin.path == "/api2"
    assert options("--public", "--admin_path=/api", "--admin_port=9001").admin.path == "/api"


def test_the_console_is_on_in_public_mode_unless_it_is_switched_off() -> None:
    assert options("--public").admin.enabled
    assert options("--admin", "--admin_secret=s").admin.enabled
    assert not options("--public", "--admin=false").admin.enabled
    assert not options("--noauth", "--public_streams").admin.enabled


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--trusted_proxies=10.0.0.0/8,proxy"], "trusted_proxies: expected a network such as"),
        (["--trusted_proxies=10.0.0.1/8"], "trusted_proxies: expected 10.0.0.0/8 or a single"),
        (["--proxy_protocol=all"], "proxy_protocol: expected trusted_proxies beside it"),
        (["--trusted_proxies=::1", "--proxy_protocol=http"], "expected ports, or all, got 'http'"),
        (["--client_address_header=x-real-ip"], "expected one of x-forwarded-for, forwarded"),
    ],
)
def test_proxies_that_are_refused(argv: list[str], line: str) -> None:
    assert line in refused(*argv)


def test_proxies_that_are_everybody_are_a_warning() -> None:
    everybody = request("--trusted_proxies=10.0.0.0/8,0.0.0.0/0").warnings
    assert list(everybody) == [
        "trusted_proxies: with 0.0.0.0/0, whoever reaches the port can claim any address"
    ]
    assert not request("--trusted_proxies=10.0.0.0/8,::1").warnings
