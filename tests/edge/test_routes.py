"""Which endpoint a path has. The first table is what anycable-go 1.6.16 does when run."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.edge.routes import RouteTable
from catenary.errors import ConfigError

PATTERNS = ("/cable", "/admin/*", "/app/{tenant}/cable")


def matches(pattern: str, path: str) -> bool:
    return RouteTable([(pattern, "x")]).find(path) == "x"


@pytest.mark.parametrize(
    ("path", "is_cable"),
    [
        ("/cable", True),
        ("/admin/", True),
        ("/admin/x", True),
        ("/admin/x/y", True),
        ("/admin/x\ny\n", True),
        ("/app/t1/cable", True),
        ("/app//cable", True),
        ("/cable/", False),
        ("/CABLE", False),
        ("/cable2", False),
        ("/x/cable", False),
        ("//cable", False),
        ("/c%61ble", False),
        ("/admin", False),
        ("/app/a/b/cable", False),
        ("/app/cable", False),
        ("/app/t1/cable/", False),
        ("/app/{tenant}/cable/", False),
        ("/", False),
        ("", False),
        ("*", False),
    ],
)
def test_paths(path: str, is_cable: bool) -> None:
    table = RouteTable([(pattern, "cable") for pattern in PATTERNS])
    assert (table.find(path) == "cable") is is_cable


@pytest.mark.parametrize(
    ("pattern", "path", "is_cable"),
    [
        ("/{id:[0-9]+}/cable", "/42/cable", True),
        ("/{id:[0-9]+}/cable", "/x/cable", False),
        ("/{id:[0-9]{2}}", "/42", True),
        ("/{id:[0-9]{2}}", "/421", False),
        ("/{id:a|b}/cable", "/a/cable", True),
        ("/{id:a|b}/cable", "/b/cable", True),
        ("/{id:a|b}/cable", "/a", False),
        ("/{a}-{b}", "/x-y", True),
        ("/{a}-{b}", "/x", False),
        ("/{a}/{b:[a-z]+}/*", "/x/y/", True),
        ("/{a}/{b:[a-z]+}/*", "/x/1/", False),
        ("/v{number}/cable", "/v1/cable", True),
        ("/a.b/*", "/a.b/c", True),
        ("/a.b/*", "/axb/c", False),
        ("/a+(b)[c]/*", "/a+(b)[c]/", True),
        ("/cable", "/cable\n", False),
        ("/ü/*", "/ü/x", True),
    ],
)
def test_patterns(pattern: str, path: str, is_cable: bool) -> None:
    assert matches(pattern, path) is is_cable


def test_no_pattern_matches_nothing() -> None:
    assert RouteTable[str]([]).find("/cable") is None


def test_each_path_has_its_endpoint_and_the_plainest_row_counts() -> None:
    table = RouteTable([("/a/*", "first"), ("/{x}/b", "second"), ("/a/b", "exact"), ("/c", "c")])
    assert table.find("/a/b") == "exact"
    assert table.find("/a/x") == "first"
    assert table.find("/x/b") == "second"
    assert table.find("/c") == "c"
    assert table.find("/d") is None


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("/{a", "braces in pairs"),
        ("/a}", "braces in pairs"),
        ("/{}", "braces in pairs"),
        ("/{:x}", "braces in pairs"),
        ("/{a}}", "braces in pairs"),
        ("/*/cable", "* at the end only"),
        ("/**", "* at the end only"),
        ("/{a:[}", "a regular expression"),
        ("/{a:(}/cable", "a regular expression"),
    ],
)
def test_a_wrong_pattern_stops_the_start(pattern: str, wanted: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^path: expected {re.escape(wanted)}.*{re.escape(pattern)}"
    ):
        RouteTable([("/cable", "x"), (pattern, "x")])


PLAIN = st.text(st.characters(exclude_characters="{}*\n", codec="utf-8"), max_size=20).map(
    "/{}".format
)


@given(plain=PLAIN, other=PLAIN)
def test_plain_text_matches_itself_only(plain: str, other: str) -> None:
    assert matches(plain, plain)
    assert matches(plain, other) is (plain == other)
    assert matches(f"{plain}/*", f"{plain}/x")
    assert matches(f"{plain}/*", f"{other}x") is f"{other}x".startswith(f"{plain}/")


@given(pattern=st.text(st.sampled_from("/ab{}*:]()+?|"), max_size=12), path=st.text(max_size=12))
def test_any_pattern_is_compiled_or_refused(pattern: str, path: str) -> None:
    try:
        table = RouteTable([(pattern, "x")])
    except ConfigError:
        return
    assert table.find(path) in ("x", None)
