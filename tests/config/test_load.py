"""Sources and their precedence, every form of a flag, and every line of an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.config.effective import effective
from catenary.config.load import load, refuse_vanished
from catenary.config.options import TABLE, Options, Value
from catenary.errors import ConfigError
from tests.config.sources import options, refused, request, value


def test_nothing_given_means_the_defaults() -> None:
    asked = request()
    assert (asked.action, asked.options, asked.config_path) == ("serve", Options(), None)
    assert (asked.presets, asked.warnings) == ((), ())


@pytest.mark.parametrize(
    ("argv", "place", "expected"),
    [
        (["--port", "9000"], "server.port", 9000),
        (["--port=9000"], "server.port", 9000),
        (["-port", "9000"], "server.port", 9000),
        (["-port=9000"], "server.port", 9000),
        (["--port=1", "--port=2"], "server.port", 2),
        (["--max-conn=5"], "server.max_conn", 5),
        (["--max_conn=5"], "server.max_conn", 5),
        (["--rpc-host=a:1"], "rpc.host", "a:1"),
        (["--rpc_host=a:1"], "rpc.host", "a:1"),
        (["--secret=a=b"], "access.secret", "a=b"),
        (["--secret", "-dash"], "access.secret", "-dash"),
        (["--secret", "--debug"], "access.secret", "--debug"),
        (["--path=/a, /b"], "websocket.paths", ("/a", "/b")),
        (["--path="], "websocket.paths", ("/cable",)),
        (["--headers="], "rpc.proxy_headers", ()),
        (["--broadcast_adapter=http"], "broadcast.adapters", ("http",)),
        (["--debug"], "log.debug", True),
        (["-debug"], "log.debug", True),
        (["--debug=true"], "log.debug", True),
        (["--debug", "true"], "log.debug", True),
        (["--debug=false"], "log.debug", False),
        (["--debug", "false"], "log.debug", False),
        (["--debug", "--port=1"], "log.debug", True),
        (["--debug", "--port=1"], "server.port", 1),
        (["--debug", "false", "--port=1"], "server.port", 1),
        (["--rpc_tls_verify=0"], "rpc.tls_verify", False),
        (["--norpc"], "rpc.implementation", "none"),
        (["--norpc", "--port=1"], "server.port", 1),
        (["--norpc=false"], "rpc.implementation", ""),
        (["--norpc", "--rpc_impl=grpc"], "rpc.implementation", "none"),
        (["--disable_disconnect"], "disconnector.mode", "never"),
        (["--metrics_log_interval=5"], "metrics.rotate_interval_s", 5),
        (["--secret=none"], "access.secret", ""),
    ],
)
def test_a_flag(argv: list[str], place: str, expected: Value) -> None:
    assert value(options(*argv), place) == expected


@pytest.mark.parametrize(
    ("environ", "place", "expected"),
    [
        ({"ANYCABLE_PORT": "9000"}, "server.port", 9000),
        ({"PORT": "9000"}, "server.port", 9000),
        ({"PORT": "1", "ANYCABLE_PORT": "2"}, "server.port", 2),
        ({"PORT": "1", "ANYCABLE_PORT": ""}, "server.port", 8080),
        ({"REDIS_URL": "redis://r"}, "redis.url", "redis://r"),
        ({"REDIS_URL": ""}, "redis.url", "redis://localhost:6379"),
        ({"ANYCABLE_REDIS_URL": "", "REDIS_URL": "redis://r"}, "redis.url", "redis://r"),
        ({"ANYCABLE_REDIS_SENTINELS": ""}, "redis.sentinels", ()),
        ({"ANYCABLE_RPC_HOST": ""}, "rpc.host", "localhost:50051"),
        ({"ANYCABLE_NATS_SERVERS": ""}, "nats.servers", ("nats://127.0.0.1:4222",)),
        ({"ANYCABLE_NATS_CHANNEL": ""}, "broadcast.nats_channel", "__anycable__"),
        ({"ANYCABLE_REDIS_CHANNEL": ""}, "broadcast.redis_channel", "__anycable__"),
        ({"ANYCABLE_REDISX_STREAM": ""}, "redisx.stream", "__anycable__"),
        ({"ANYCABLE_ENATS_CLUSTER_NAME": ""}, "enats.cluster_name", "anycable-cluster"),
        ({"ANYCABLE_HTTP_BROADCAST_PATH": ""}, "http_broadcast.path", "/_broadcast"),
        ({"ANYCABLE_HEALTH_PATH": ""}, "server.health_path", "/health"),
        ({"ANYCABLE_READY_PATH": ""}, "server.ready_path", "/ready"),
        ({"ANYCABLE_API_PATH": ""}, "api.path", "/api"),
        ({"ANYCABLE_PATH": ""}, "websocket.paths", ("/cable",)),
        ({"ANYCABLE_JWT_PARAM": ""}, "jwt.param", "jid"),
        ({"ANYCABLE_MAX_CONN": "5"}, "server.max_conn", 5),
        ({"ANYCABLE_PROXY_COOKIES": "a,b"}, "rpc.proxy_cookies", ("a", "b")),
        ({"ANYCABLE_DEBUG": "1"}, "log.debug", True),
        ({"ANYCABLE_DEBUG": ""}, "log.debug", False),
        ({"ANYCABLE_NORPC": "true"}, "rpc.implementation", "none"),
        ({"ANYCABLE_HEADERS": ""}, "rpc.proxy_headers", ()),
        ({"ANYCABLE_HOST": ""}, "server.host", ""),
        ({"ANYCABLE_BROADCAST_ADAPTER": ""}, "broadcast.adapters", ("http", "redis")),
        ({"ANYCABLE_LOG_LEVEL": ""}, "log.level", "info"),
        ({"ANYCABLE_DISABLE_TELEMETRY": "true"}, "deployment.disable_telemetry", True),
        ({"ANYCABLE_WS_MAX_PENDING_SIZE": "5"}, "websocket.max_pending_size_bytes", 5),
    ],
)
def test_a_variable(environ: dict[str, str], place: str, expected: Value) -> None:
    assert value(options(environ=environ), place) == expected


def test_all_variables_may_be_empty() -> None:
    """Container tools set missing variables to empty text; also where empty text has a meaning."""
    names = [name for entry in TABLE for name in entry.option.variables]
    assert len(names) > 100
    for name in names:
        effective(options(environ={name: ""}))
    found = effective(options(environ=dict.fromkeys(names, "")))
    assert found.redis == Options().redis
    assert found.nats == Options().nats


def test_unknown_variables_are_ignored() -> None:
    environ = {"ANYCABLE_RPC_POOL_SIZE": "40", "ANYCABLE_PROT": "1", "ANYCABLE_CONFIG_PATH": "/x"}
    assert options(environ=environ) == Options()


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("[server]\nport = 9000", "server.port", 9000),
        ("server.port = 9000", "server.port", 9000),
        ('[server]\nssl.cert_path = "c"\nssl.key_path = "k"', "server.ssl_key", "k"),
        ('[server]\nallowed_origins = "a,*.b"', "server.allowed_origins", ("a", "*.b")),
        ('[server]\nallowed_origins = ["a", "*.b"]', "server.allowed_origins", ("a", "*.b")),
        ('broadcast_adapters = ["http"]', "broadcast.adapters", ("http",)),
        ('broadcast_adapter = "http"', "broadcast.adapters", ("http",)),
        ('[rpc]\nimplementation = "none"', "rpc.implementation", "none"),
        ('[ws]\npaths = ["/a", "/b"]', "websocket.paths", ("/a", "/b")),
        ("[disconnector]\nrate = 7", "disconnector.rate", 7),
        ('[metrics]\nhttp = ""', "metrics.http_path", ""),
        ('[metrics]\nhttp_path = ""', "metrics.http_path", ""),
        ("[app]\nenable_native_ping = false", "ping.native", False),
        ("[app]\nenable_native_pings = false", "ping.native", False),
    ],
)
def test_a_toml_key(text: str, place: str, expected: Value) -> None:
    assert value(options(file=text), place) == expected


def test_precedence() -> None:
    found = options(
        "--port=3",
        environ={"ANYCABLE_PORT": "2", "ANYCABLE_MAX_CONN": "2"},
        file="[server]\nport = 1\nmax_conn = 1\nhealth_path = '/file'",
    ).server
    assert (found.port, found.max_conn, found.health_path, found.host) == (
        3,
        2,
        "/file",
        "localhost",
    )


def test_a_default_given_explicitly_wins_over_a_lower_source() -> None:
    assert options("--port=8080", environ={"PORT": "2"}).server.port == 8080
    assert options("--debug=false", environ={"ANYCABLE_DEBUG": "1"}).log.debug is False
    assert options("--norpc=false", environ={"ANYCABLE_NORPC": "1"}).rpc.implementation == ""


FILES = {
    "./anycable.toml": "server.port = 1",
    "/etc/anycable/anycable.toml": "server.port = 2",
    "given.toml": "server.port = 3",
}


@pytest.mark.parametrize(
    ("argv", "missing", "path", "port"),
    [
        ([], None, "./anycable.toml", 1),
        ([], "./anycable.toml", "/etc/anycable/anycable.toml", 2),
        (["--config-path=given.toml"], None, "given.toml", 3),
        (["--config_path", "given.toml"], None, "given.toml", 3),
        (["--ignore-config-path"], None, None, 8080),
        (["--ignore-config-path", "--config-path=given.toml"], None, None, 8080),
        (["--ignore_config_path=false"], None, "./anycable.toml", 1),
    ],
)
def test_the_file(argv: list[str], missing: str | None, path: str | None, port: int) -> None:
    asked = request(*argv, files={name: FILES[name] for name in FILES if name != missing})
    assert (asked.config_path, asked.options.server.port) == (path, port)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "expected the file that was read at the start, got none"),
        (
            {"/etc/anycable/anycable.toml": FILES["/etc/anycable/anycable.toml"]},
            "expected the file that was read at the start, got /etc/anycable/anycable.toml",
        ),
        ({"./anycable.toml": " \n"}, "expected options, got an empty file"),
    ],
)
def test_a_file_that_is_gone_or_empty_does_not_reset_the_options(
    files: dict[str, str], why: str
) -> None:
    first = request(files=FILES)
    with pytest.raises(ConfigError, match=f"^./anycable.toml: {why}$"):
        refuse_vanished(first, request(files=files))


def test_a_file_may_appear_or_remain_empty() -> None:
    refuse_vanished(request(files={}), request(files=FILES))
    refuse_vanished(request(files={"./anycable.toml": ""}), request(files={"./anycable.toml": ""}))


def test_only_the_files_that_are_needed_are_read() -> None:
    read: list[str] = []

    def reader(path: str) -> str:
        read.append(path)
        return ""

    load(["--config-path=given.toml"], {}, reader)
    load(["--ignore-config-path"], {}, reader)
    load(["--help"], {}, reader)
    assert read == ["given.toml"]


@pytest.mark.parametrize(
    ("argv", "action"),
    [
        (["-h"], "help"),
        (["--help"], "help"),
        (["--port=1", "-help"], "help"),
        (["--help-all"], "help-all"),
        (["--help_all", "--help"], "help-all"),
        (["-v"], "version"),
        (["--version"], "version"),
        (["--print-config"], "print-config"),
        (["--print_config"], "print-config"),
        (["--print-config=false"], "serve"),
    ],
)
def test_the_action(argv: list[str], action: str) -> None:
    assert request(*argv).action == action


def test_help_does_not_mind_a_broken_environment() -> None:
    assert request("-h", environ={"PORT": "abc"}, files={"./anycable.toml": "?"}).action == "help"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--prot=1"], "unknown option --prot; did you mean --port?"),
        (["--max-con", "1"], "unknown option --max-con; did you mean --max-conn?"),
        (["--norcp"], "unknown option --norcp; did you mean --norpc?"),
        (
            ["--print-confg"],
            "unknown option --print-confg; did you mean --print-config?",
        ),
        (["--qqqqqqqq"], "unknown option --qqqqqqqq"),
        (["--q\nq"], "unknown option --'q\\nq'"),
        (["serve"], "expected an option such as --port=8080, got the word 'serve'"),
        (["--port=1", "x"], "expected an option such as --port=8080, got the word 'x'"),
        (["--"], "expected an option such as --port=8080, got the word '--'"),
        (["--port"], "--port: expected a value, got the end of the command line"),
        (["--config-path"], "--config-path: expected a value, got the end of the command line"),
        (["--config-path=no"], "--config-path: expected a file, got 'no'"),
        (["--port=abc"], "--port: expected a whole number from 0 to 65535, got 'abc'"),
        (["-port", "abc"], "--port: expected a whole number from 0 to 65535, got 'abc'"),
        (["--max_conn=-1"], "--max_conn: expected a whole number of at least 0, got -1"),
        (["--debug=maybe"], "--debug: expected true or false, got 'maybe'"),
        (["--help=maybe"], "--help: expected true or false, got 'maybe'"),
        (["--log_level=x"], "--log_level: expected one of debug, info, warn, error, got 'x'"),
        (["--log_format=x"], "--log_format: expected one of text, json, got 'x'"),
        (
            ["--disconnect_mode=x"],
            "--disconnect_mode: expected one of auto, always, never, got 'x'",
        ),
        (
            ["--ping_timestamp_precision=us"],
            "--ping_timestamp_precision: expected one of s, ms, ns, got 'us'",
        ),
        (["--rpc_impl=x"], "--rpc_impl: expected one of grpc, http, none, got 'x'"),
        (["--presets=x"], "--presets: expected a list of none, fly, heroku, broker, got 'x'"),
    ],
)
def test_a_wrong_command_line(argv: list[str], line: str) -> None:
    assert refused(*argv) == line


def test_a_wrong_variable() -> None:
    line = refused(environ={"PORT": "abc"})
    assert line == "PORT: expected a whole number from 0 to 65535, got 'abc'"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[server]\nprot = 1",
            "./anycable.toml: unknown key server.prot; did you mean",
        ),
        (
            "rpc_host = 'a'",
            "./anycable.toml: unknown key rpc_host; did you mean rpc.host?",
        ),
        ("[server]\nport = '1'", "./anycable.toml: server.port: expected a whole number from 0 to"),
        ("[server", "./anycable.toml: expected TOML, got: "),
        (
            "port = " + 5000 * "[",
            "./anycable.toml: expected TOML, got values that are nested too deeply",
        ),
    ],
)
def test_a_wrong_file(text: str, line: str) -> None:
    assert refused(file=text).startswith(line)


@pytest.mark.parametrize(
    "argv",
    [
        ["--secert=hush"],
        ["--secret", "one", "hush"],
        ["--redis_url", "redis://one", "hush"],
        ["--debug", "--http_rpc_secret=x", "hush"],
    ],
)
def test_a_secret_is_not_shown(argv: list[str]) -> None:
    assert "hush" not in refused(*argv)


def test_deprecated_options_are_said_to_be() -> None:
    asked = request(
        "--disable_disconnect",
        "--http_broadcast_secret=",
        environ={"ANYCABLE_DISCONNECT_TIMEOUT": "5", "ANYCABLE_HTTP_RPC_TIMEOUT": "100"},
    )
    assert sorted(asked.warnings) == [
        "--disable_disconnect is deprecated, use disconnect_mode=never",
        "ANYCABLE_DISCONNECT_TIMEOUT is deprecated, use shutdown_timeout",
        "ANYCABLE_HTTP_RPC_TIMEOUT is deprecated, use rpc_request_timeout",
    ]


@given(
    st.lists(
        st.sampled_from(["--port", "--debug", "=1", "true", "--", "-", "--x", "-h", "a b", ""])
        | st.text(max_size=6),
        max_size=6,
    )
)
def test_any_command_line_is_read_or_refused_in_one_line(argv: list[str]) -> None:
    try:
        options(*argv)
    except ConfigError as error:
        lines = str(error).count("\n") + 1
    else:
        lines = 1
    assert lines == 1


def test_each_value_knows_where_it_comes_from() -> None:
    found = request(
        "--port=9000",
        "--norpc",
        "--public",
        "--presets=broker",
        environ={"ANYCABLE_PORT": "1", "ANYCABLE_HOST": "a", "ANYCABLE_LOG_LEVEL": "debug"},
        files={"./anycable.toml": "[server]\nhost = 'b'\n[logging]\nformat = 'json'"},
    )
    assert found.sources == {
        "server.port": "--port",
        "server.host": "ANYCABLE_HOST",
        "rpc.implementation": "--norpc",
        "access.public": "--public",
        "deployment.presets": "--presets",
        "log.level": "ANYCABLE_LOG_LEVEL",
        "log.format": "./anycable.toml: logging.format",
        "broker.adapter": "presets: broker",
        "broadcast.adapters": "presets: broker",
        "admin.enabled": "public mode",
    }


def test_what_an_application_in_the_process_changes_says_so() -> None:
    found = load([], {}, lambda path: None, with_cable=True)
    assert found.sources == {"broadcast.adapters": "an application in this process"}
