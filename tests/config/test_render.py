"""Help, --print-config and the docs table; what is printed loads again to the same values."""

import os
import string
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.config import render
from catenary.config.options import SHORTHANDS, TABLE, OptionRow, Options, Value
from catenary.errors import ConfigError
from tests.config.sources import options, request

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ITEM = st.text(
    st.characters(exclude_categories=["Cs", "Z", "C"], exclude_characters=",;"), min_size=1
)

# Not from regular expressions, which draw slowly
LOWER, DIGITS = string.ascii_lowercase, string.digits
WORD = st.text(f"{string.ascii_letters}{DIGITS}_-", min_size=1, max_size=20)
NETWORK = st.sampled_from(["10.0.0.0/8", "fd00::/8", "192.0.2.1", "unix"])
HOST = st.builds(
    "{}{}.test{}".format,
    st.sampled_from(["", "*."]),
    st.text(LOWER + DIGITS, min_size=1, max_size=9),
    st.just("") | st.integers(1, 9999).map(":{}".format),
)
PUSHER_APP = '{"id":"a.1","key":"a.1","secret":"\\"\x7f","client_events":false,"max_connections":3}'
ADDRESS = st.builds(
    "nats://{}:{}".format, st.text(LOWER, min_size=1, max_size=9), st.integers(1, 9999)
)


def values(entry: OptionRow) -> st.SearchStrategy[Value]:
    """Any value that an option may have."""
    allowed = list(entry.choices)
    match entry.kind:
        case "int":
            return st.integers(entry.option.minimum, entry.option.maximum)
        case "bool":
            return st.booleans()
        case "tags":
            # Those of Prometheus' labels
            names = st.from_regex(r"(?!__|le\Z)[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
            return st.dictionaries(names, ITEM, max_size=3).map(
                lambda tags: tuple(f"{name}:{value}" for name, value in tags.items())
            )
        case "list":
            items = st.sampled_from(allowed) if allowed else ITEM
            return st.lists(items, min_size=int(entry.option.required), max_size=3).map(tuple)
        case "str":
            return st.sampled_from(allowed) if allowed else TEXT
        case "tables":
            return st.just(())


@st.composite
def any_options(draw: st.DrawFn) -> Options:
    """Options that load accepts: what must go together is made so."""
    rooms: dict[str, dict[str, Value]] = {}
    for entry in draw(st.lists(st.sampled_from(TABLE), max_size=30)):
        rooms.setdefault(entry.room, {})[entry.name] = draw(values(entry))
    for room, name in (
        ("server", "ssl_cert"),
        ("server", "ssl_key"),
        ("redis", "tls_client_cert_path"),
        ("redis", "tls_client_key_path"),
        ("nats", "tls_client_cert_path"),
        ("nats", "tls_client_key_path"),
    ):
        rooms.setdefault(room, {})[name] = draw(TEXT.filter(bool))
    for room, name in (
        ("server", "health_path"),
        ("server", "ready_path"),
        ("http_broadcast", "path"),
        ("sse", "path"),
        ("poll", "path"),
        ("api", "path"),
        ("metrics", "http_path"),
    ):
        rooms.setdefault(room, {})[name] = f"/{room}_{name}{draw(WORD)}"
    rooms.setdefault("websocket", {})["paths"] = tuple(
        f"/cable{item}" for item in draw(st.lists(WORD, min_size=1, max_size=3))
    )
    if rooms.get("rpc", {}).get("implementation") == "http":
        rooms["rpc"]["host"] = f"http://{draw(ITEM)}"
    jwt = rooms.setdefault("jwt", {})
    jwt["param"] = draw(WORD)
    otel = rooms.setdefault("otel", {})
    otel["endpoint"] = draw(st.sampled_from(["", "http://collector.test:4318"]))
    otel["sample_ratio"] = draw(st.floats(0, 1).map(str))
    jwt["jwks_url"] = draw(st.sampled_from(["", "https://issuer.test/keys"]))
    if jwt.get("enforce") or jwt.get("enforce_expiry"):
        jwt["secret"] = "s"
    if jwt.get("enforce_expiry"):
        jwt["resume_expired"] = False
    broker = rooms.get("broker", {}).get("adapter")
    if broker == "memory" or draw(st.booleans()):
        rooms.setdefault("server", {})["workers"] = 1
    else:
        rooms["metrics"]["http_path"] = ""
        rooms.setdefault("api", {})["host"] = ""
    if broker:
        rooms.setdefault("pubsub", {})["adapter"] = "none"
    durable = rooms.setdefault("ds", {})
    durable["path"] = f"/streams{draw(WORD)}"
    durable["write"] = False
    if not broker:
        durable["enabled"] = False
    else:
        rooms["broker"] |= {"history_limit": 1, "history_ttl_s": 1}
    rooms.setdefault("graphql", {}).update(
        path=f"/graphql{draw(WORD)}",
        channel=draw(TEXT.filter(bool)),
        action=draw(TEXT.filter(bool)),
        idle_timeout_s=draw(st.integers(1, 9)),
    )
    rooms.setdefault("admin", {}).update(path=f"/console{draw(WORD)}", secret=f"s{draw(TEXT)}")
    rooms.setdefault("ocpp", {})["path"] = f"/stations{draw(WORD)}"
    rooms.setdefault("nats", {}).update(
        servers=tuple(draw(st.lists(ADDRESS, min_size=1, max_size=2))),
        nkey_path="",
        inbox_prefix=draw(WORD),
        jetstream_domain="",
        jetstream_api_prefix=draw(st.just("") | WORD),
    )
    enats = rooms.setdefault("enats", {})
    enats |= {
        "address": draw(st.just("") | ADDRESS),
        "cluster_address": draw(ADDRESS),
        "cluster_name": draw(WORD),
        "routes": tuple(draw(st.lists(ADDRESS, max_size=2))),
        "gateway_address": draw(ADDRESS),
        "gateways": tuple(
            f"c{n}:{url}" for n, url in enumerate(draw(st.lists(ADDRESS, max_size=2)))
        ),
        "server_name": draw(st.just("") | WORD),
    }
    rooms.setdefault("broadcast", {})["nats_channel"] = draw(WORD)
    rooms.setdefault("statsd", {}).update(host=draw(st.just("") | HOST), prefix=draw(WORD))
    for room, name in (
        ("server", "allowed_origins"),
        ("http_broadcast", "cors_hosts"),
        ("api", "cors_hosts"),
        ("sse", "allowed_origins"),
    ):
        rooms.setdefault(room, {})[name] = tuple(draw(st.lists(HOST, max_size=3)))
    rooms["server"]["trusted_proxies"] = tuple(draw(st.lists(NETWORK, max_size=3)))
    is_proxied = rooms["server"]["trusted_proxies"] and draw(st.booleans())
    rooms["server"]["proxy_protocol"] = ("all", "8080") if is_proxied else ()
    rooms.setdefault("pusher", {}).update(
        app_id=draw(WORD),
        app_key=draw(WORD),
        apps=draw(st.sampled_from([(), (PUSHER_APP,)])),
    )
    # fly needs the variables of its place; test_presets has them.
    rooms.setdefault("deployment", {})["presets"] = draw(st.sampled_from([(), ("none",)]))
    return Options(
        **{room: type(getattr(Options(), room))(**given) for room, given in rooms.items()}
    )


@given(any_options())
def test_printed_toml_loads_to_the_same_values(given: Options) -> None:
    assert options(file=render.toml(given)) == given


def test_printed_text_may_hold_any_character() -> None:
    text = "".join(map(chr, range(0x100))) + "\u2028\U0001f600\"'''\\"
    given = options(f"--secret={text}")
    assert options(file=render.toml(given)).access.secret == text


def test_printed_toml_holds_what_a_preset_gave() -> None:
    environ = {"FLY_WORD": "a", "FLY_ALLOC_ID": "b", "FLY_REGION": "c"}
    asked = request(environ=environ)
    assert options(file=render.toml(asked.options)) == asked.options
    explicit = request(
        "--host=localhost", "--broadcast_adapter=http,redis", environ=environ
    ).options
    assert options(environ=environ, file=render.toml(explicit)) == explicit


def test_programs_read_which_of_these_are_not_set() -> None:
    """As in features/file_config.testfile (anycable/anycable)."""
    printed = tomllib.loads(render.toml(options("--secret=none")))
    assert printed["secret"] == "none"
    assert "node_id" not in printed
    assert "debug" not in printed["logging"]


def test_tags_are_printed_as_a_table() -> None:
    tags = next(entry for entry in TABLE if entry.kind == "tags")
    line = render._setting(tags, ('e"nv:one:two', "zone:b")).splitlines()[-1]
    assert tomllib.loads(line) == {"tags": {'e"nv': "one:two", "zone": "b"}}


def test_printed_toml_names_every_option() -> None:
    text = render.toml(Options())
    for entry in TABLE:
        key = entry.option.toml.split(".", 1)[-1]
        is_commented = entry.place in {"node.node_id", "log.debug"}
        assert f"\n{'# ' * is_commented}{key} = " in text


def test_printed_toml_lists_of_the_reference_are_one_string() -> None:
    text = render.toml(options("--allowed_origins=a.com,*.b.com", "--path=/a,/b"))
    assert '\nallowed_origins = "a.com,*.b.com"\n' in text
    assert '\npaths = ["/a", "/b"]\n' in text


def test_help_shows_every_option_that_is_not_hidden() -> None:
    lines = {line.split()[0] for line in render.help_text().splitlines() if line.startswith("  --")}
    shown = {f"--{entry.option.flag}" for entry in TABLE if not entry.option.hidden}
    general = {"--config-path", "--ignore-config-path", "--print-config", "--help-all"}
    assert lines == shown | general | {f"--{row.flag}" for row in SHORTHANDS if not row.hidden}


def test_brief_help_has_the_options_that_have_a_brief_meaning() -> None:
    text = render.brief_help([("new", "Create a project"), ("sign", "Sign"), ("who", "List")])
    lines = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert lines == [f"--{entry.option.flag}" for entry in TABLE if entry.option.brief]
    assert (
        "\n  new         Create a project          who         List\n  sign        Sign\n" in text
    )
    assert not any(entry.option.hidden for entry in TABLE if entry.option.brief)


def test_help_is_grouped_and_says_default_choices_and_variables() -> None:
    text = render.help_text()
    assert "\nSERVER:\n  --host TEXT  " in text
    assert "(default: 8080) [$ANYCABLE_PORT, $PORT]" in text
    flat = " ".join(text.split())
    assert "one of debug, info, warn, error (default: info) [$ANYCABLE_LOG_LEVEL]" in flat
    assert "(not in this version) Path of a Ruby script" in render.markdown()
    assert max(map(len, text.splitlines())) <= render.WIDTH


def test_markdown_has_a_row_for_every_option() -> None:
    text = render.markdown()
    rows = [line for line in text.splitlines() if line.startswith(("| `", "|  |"))]
    assert len(rows) == len(TABLE) + len(SHORTHANDS)
    assert (
        "| `--port` | `ANYCABLE_PORT`, `PORT` | `server.port` | `8080` |  | Port to listen on |"
        in rows
    )
    assert "\n### HTTP broadcast\n" in text
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)


def test_a_value_that_is_not_utf_8_can_t_be_printed() -> None:
    with pytest.raises(ConfigError, match="UTF-8"):
        render.toml(options(f"--broadcast_key={os.fsdecode(bytes([0xFC]))}"))
