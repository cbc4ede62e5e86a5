"""Fields stand beside the message in both formats, and nobody outside can write one, or a line."""

import datetime as dt
import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catenary.logs.fields import Value, fields
from catenary.logs.formats import JsonFormatter, Process, TextFormatter

HOSTILE = 'a\n2026-01-01T00:00:00.000Z ERROR   server: forged\x1b[2J" level="ERROR" sid=x \u202e'


OWN = ("ts", "level", "msg", "logger", "node")


def record(text: str, *args: object, event: str = "", **values: Value) -> logging.LogRecord:
    made = logging.LogRecord("catenary.client", logging.INFO, "", 1, text, args, None)
    made.__dict__.update(fields(event, **values))
    made.created = 1_790_000_000.25
    return made


def as_json(made: logging.LogRecord, process: Process | None = None) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(JsonFormatter(process).format(made))
    return read


def test_json_has_the_fields_that_programs_filter_by() -> None:
    made = record("Rejected", event="rejected", origin="http://a", sid="s", status=3, reason="no")
    entry = as_json(made, Process(node="n1", worker=2))
    assert entry == {
        "ts": "2026-09-21T14:13:20.250Z",
        "level": "INFO",
        "event": "rejected",
        "msg": "Rejected",
        "sid": "s",
        "node": "n1",
        "worker": 2,
        "reason": "no",
        "logger": "catenary.client",
        "origin": "http://a",
        "status": 3,
    }
    assert list(entry)[:7] == ["ts", "level", "event", "msg", "sid", "node", "worker"]


def test_the_line_feed_at_the_end_of_a_library_s_message_is_left_out() -> None:
    """uvicorn's "Exception in ASGI application" has one."""
    assert as_json(record("failed\n"))["msg"] == "failed"
    assert as_json(record("failed\nforged\n"))["msg"] == r"failed\nforged"


def test_a_line_without_an_event_is_named_by_its_logger() -> None:
    plain = logging.LogRecord("catenary.redis", logging.INFO, "", 1, "Connected", (), None)
    assert as_json(plain)["event"] == "redis"
    library = logging.LogRecord("uvicorn.error", logging.INFO, "", 1, "x", (), None)
    assert as_json(library)["event"] == "uvicorn.error"


def test_text_has_the_fields_after_the_message() -> None:
    made = record("Rejected", event="e", sid="s", why="two words", none=None, empty="", n=0)
    assert (
        TextFormatter().format(made).endswith('INFO    client: Rejected sid=s why="two words" n=0')
    )


def test_text_names_the_node_only_if_it_was_given_a_name() -> None:
    made = record("x")
    assert "node=" not in TextFormatter(Process(node="generated")).format(made)
    named = TextFormatter(Process(node="blue", is_named=True, worker=3)).format(made)
    assert named.endswith("client: x worker=3 node=blue")


def test_colours_are_for_terminals() -> None:
    made = record("Rejected", sid="s")
    assert "\x1b" not in TextFormatter().format(made)
    coloured = TextFormatter(colours=True).format(made)
    assert "\x1b[32mINFO" in coloured
    assert coloured.endswith("\x1b[0m")


@pytest.mark.parametrize("name", ["sid", "path", "origin", "reason", "identifier"])
def test_a_field_can_t_forge_a_line_or_a_field(name: str) -> None:
    made = record("Rejected", **{name: HOSTILE})
    line = TextFormatter().format(made)
    assert line.isprintable()
    start = line.index(f"{name}=") + len(name) + 1
    assert line[start] == '"'
    assert '"' not in line[start + 1 : -1].replace('\\"', ""), "all of it is one quoted value"
    entry = as_json(made)
    assert set(entry) == {"ts", "level", "event", "msg", "logger", name}
    assert entry["level"] == "INFO"
    assert entry[name].isprintable()


@given(st.text(st.characters() | st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"])))
def test_whatever_a_value_is_the_line_is_one_printable_line(value: str) -> None:
    made = record("x", path=value)
    assert TextFormatter().format(made).isprintable()
    assert JsonFormatter().format(made).isprintable()


@given(st.text(" \\\"'=ab", max_size=20))
@example('a\\" remote=10.6.6.6 x="')
def test_a_text_line_is_read_back_as_it_was_written(value: str) -> None:
    line = TextFormatter().format(record("x", path=value, remote="10.0.0.7"))
    _, _, _, _, *read = shlex.split(line)
    assert read == [*([f"path={value}"] if value else []), "remote=10.0.0.7"]


def test_a_field_can_t_replace_one_of_the_line() -> None:
    entry = as_json(record("x", level="forged", ts="forged", msg="forged", logger="forged"))
    assert "forged" not in entry.values()


def test_long_fields_are_shortened() -> None:
    made = record("x", identifier="y" * 100_000)
    assert len(TextFormatter().format(made)) < 700
    assert as_json(made)["identifier"].endswith("… (100000 characters)")


def test_the_page_shows_a_line_as_it_is_written() -> None:
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    (shown,) = re.findall(r"^\{.*\}$", page, re.MULTILINE)
    entry = json.loads(shown)
    values = {key: value for key, value in entry.items() if key not in (*OWN, "event")}
    made = record(entry["msg"], event=entry["event"], **values)
    made.created = dt.datetime.fromisoformat(entry["ts"]).timestamp()
    assert JsonFormatter(Process(node=entry["node"])).format(made) == shown
    order = ("identifier", "reason", "sid", "remote", "path", "origin")
    text = record(entry["msg"], **{key: values[key] for key in order})
    text.created = made.created
    assert TextFormatter().format(text) in page
