"""The table itself: every name once, every row complete."""

from collections import Counter

import pytest

from catenary.config.options import (
    SHORTHANDS,
    TABLE,
    Option,
    OptionRow,
    Options,
    RedisOptions,
    Section,
    variable_of,
)
from catenary.config.values import from_toml

# Additions to anycable-go.
OURS = {
    "sse_allowed_origins",
    "jwt_public_key",
    "jwt_jwks_url",
    "jwt_jwks_refresh",
    "jwt_algorithms",
    "jwt_issuer",
    "jwt_audience",
    "jwt_resume_expired",
    "ready-path",
    "ready_connect_failures",
    "ready_connect_window",
    "ready_connect_calls",
    "access_log",
    "asgi",
    "ds_write",
    "worker_start_timeout",
    "worker_timeout",
    "workers",
    "restored_action",
    "app_workers",
    "secret_rotation_grace",
    "jwt_enforce_expiry",
    "jwt_expiry_grace",
    "reload",
    "max_header_size",
    "max_headers",
    "handshake_timeout",
    "handover_socket",
    "max_waiting_handshakes",
    "trusted_proxies",
    "client_address_header",
    "proxy_protocol",
    "max_connect_rate",
    "max_address_connect_rate",
    "max_address_connections",
    "max_user_connections",
    "max_command_rate",
    "max_publish_rate",
    "max_pending_requests_size",
    "ws_message_timeout",
    "ws_max_message_rate",
    "max_identifier_size",
    "max_subscriptions",
    "max_streams",
    "max_stream_name_size",
    "max_state_keys",
    "max_state_size",
    "tcp_timeout",
    "pusher_apps",
    "streams_rules",
    "pusher_activity_timeout",
    "pusher_pong_timeout",
    "pusher_webhook_batch_interval",
    "pusher_webhook_timeout",
    "pusher_webhook_retry",
    "nats_creds_path",
    "nats_nkey_path",
    "nats_tls_ca_cert_path",
    "nats_tls_client_cert_path",
    "nats_tls_client_key_path",
    "nats_tls_handshake_first",
    "nats_inbox_prefix",
    "nats_jetstream_domain",
    "nats_jetstream_api_prefix",
    "nats_jetstream_replicas",
    "nats_jetstream_cluster",
    "nats_jetstream_tags",
    "otel",
    "otel_exporter",
    "otel_endpoint",
    "otel_sample_ratio",
    "otel_service_name",
}

BY_PLACE = {entry.place: entry for entry in TABLE}


def twice(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def test_no_flag_is_there_twice() -> None:
    flags = [entry.option.flag for entry in TABLE if entry.option.flag is not None]
    aliases = [alias for entry in TABLE for alias in entry.option.flag_aliases]
    shorthands = [row.flag for row in SHORTHANDS]
    assert twice([flag.replace("-", "_") for flag in flags + aliases + shorthands]) == []


def test_no_variable_is_there_twice() -> None:
    variables = [name for entry in TABLE for name in entry.option.variables]
    assert twice(variables + [variable_of(row.flag) for row in SHORTHANDS]) == []


def test_no_toml_key_is_there_twice_or_lies_inside_another() -> None:
    keys = [key for entry in TABLE for key in (entry.option.toml, *entry.option.toml_aliases)]
    assert twice(keys) == []
    assert [key for key in keys if any(other.startswith(f"{key}.") for other in keys)] == []


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: str(entry.place))
def test_a_row_is_complete(entry: OptionRow) -> None:
    assert entry.option.help.strip() == entry.option.help != ""
    assert entry.value_in(Options()) == entry.default
    given = list(entry.default) if isinstance(entry.default, tuple) else entry.default
    if entry.kind != "tags":
        assert from_toml(entry, given, "default") == entry.default


def test_shorthands_set_what_exists() -> None:
    places = [place for row in SHORTHANDS for place, _ in row.sets]
    assert set(places) <= BY_PLACE.keys()


@pytest.mark.parametrize(
    ("place", "kind", "choices"),
    [
        ("server.port", "int", ()),
        ("access.public", "bool", ()),
        ("server.host", "str", ()),
        ("websocket.paths", "list", ()),
        ("metrics.tags", "tags", ()),
        ("log.format", "str", ("text", "json")),
        ("broadcast.adapters", "list", ("http", "redis", "redisx", "nats")),
    ],
)
def test_kinds_come_from_annotations(place: str, kind: str, choices: tuple[str, ...]) -> None:
    assert BY_PLACE[place].kind == kind
    assert BY_PLACE[place].choices == choices


@pytest.mark.parametrize(
    ("stated", "flag", "toml", "variables"),
    [
        (Option("help"), "ping_interval", "ping.interval", ("ANYCABLE_PING_INTERVAL",)),
        (
            Option("help", flag="max-conn", flag_aliases=("mc",), variables=("MAX",)),
            "max-conn",
            "ping.interval",
            ("ANYCABLE_MAX_CONN", "ANYCABLE_MC", "MAX"),
        ),
        (Option("help", flag=None, toml="app.pings"), None, "app.pings", ()),
        (Option("help", flag=None, variables=("PINGS",)), None, "ping.interval", ("PINGS",)),
    ],
)
def test_what_an_option_does_not_state_derives_from_its_name(
    stated: Option, flag: str | None, toml: str, variables: tuple[str, ...]
) -> None:
    section = Section("PING", flags="ping_", toml="ping.")
    option = section.complete("interval_s", stated)
    assert (option.group, option.flag, option.toml) == ("PING", flag, toml)
    assert option.variables == variables


@pytest.mark.parametrize("name", ["size", "size_bytes", "size_s", "size_ms"])
def test_the_unit_of_a_name_is_in_neither_flag_nor_key(name: str) -> None:
    option = Section("G", toml="room.").complete(name, Option("help"))
    assert (option.flag, option.toml) == ("size", "room.size")


def test_groups_are_frozen() -> None:
    with pytest.raises(AttributeError):
        RedisOptions().url = "redis://elsewhere"  # type: ignore[misc]


def test_the_table_has_the_options_of_the_reference() -> None:
    """The flags of anycable-go 1.6.16 are 137; 23 more come from its Pro edition."""
    flags = [entry.option.flag for entry in TABLE if entry.option.flag is not None]
    assert set(flags) >= OURS
    assert len(flags) + len(SHORTHANDS) == 137 + 23 + len(OURS)
