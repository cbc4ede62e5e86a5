"""Origins of pages that may connect."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.auth.origins import Origins


@pytest.mark.parametrize("hosts", [[], [""], ["", "  "]], ids=["none", "empty", "blank"])
@pytest.mark.parametrize("origin", ["", "null", "http://example.com", "nonsense", "http://["])
def test_without_hosts_every_origin_is_allowed(hosts: list[str], origin: str) -> None:
    origins = Origins(hosts)

    assert origins.is_open
    assert origins.allow(origin)


@pytest.mark.parametrize(
    ("hosts", "origin", "allowed"),
    [
        ("example.com", "http://example.com", True),
        ("example.com", "https://example.com", True),
        ("example.com", "HTTPS://EXAMPLE.com", True),
        ("Example.COM", "http://example.com", True),
        (" example.com ", "http://example.com", True),
        ("example.com", "http://a.example.com", False),
        ("example.com", "http://notexample.com", False),
        ("example.com", "http://example.com.evil.test", False),
        ("example.com", "http://example.com:3000", False),
        ("example.com:3000", "http://example.com:3000", True),
        ("example.com:3000", "http://example.com", False),
        ("example.com:3000", "http://example.com:30000", False),
        ("*.example.com", "http://a.example.com", True),
        ("*.example.com", "http://a.b.example.com", True),
        ("*.example.com", "http://example.com", False),
        ("*.example.com", "http://notexample.com", False),
        ("*.example.com", "http://a.example.com:3000", False),
        ("*.example.com:3000", "http://a.example.com:3000", True),
        ("*.example.com", "http://a.example.com.evil.test", False),
        ("*.example.com", "http://evil.test/.example.com", False),
        ("*.example.com", "http://evil.test?.example.com", False),
        ("*.example.com", "http://evil.test#.example.com", False),
        ("a.test,b.test", "http://b.test", True),
        ("a.test,*.b.test", "http://c.b.test", True),
        ("a.test,*.b.test", "http://c.a.test", False),
        ("[::1]:3000", "http://[::1]:3000", True),
        ("example.com", "", False),
        ("example.com", "null", False),
        ("example.com", "example.com", False),
        ("example.com", "http://[", False),
        ("example.com", "http://example.com, http://evil.test", False),
        ("*.example.com", "", False),
        ("*.example.com", "null", False),
        ("*.example.com", "http://evil.test, http://a.example.com", False),
        ("*", "http://evil.test", True),
        ("*", "null", True),
        ("*", "", True),
        # Whole origins, and URLs that stand for theirs
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "http://example.com", False),
        ("https://example.com", "https://a.example.com", False),
        ("https://example.com", "https://example.com:8443", False),
        ("HTTPS://Example.com/", "https://example.com", True),
        ("https://example.com/chat?room=1", "https://example.com", True),
        ("https://example.com:443", "https://example.com", True),
        ("https://example.com:80", "https://example.com", False),
        ("https://example.com", "https://example.com:443", True),
        ("http://localhost:3000", "http://localhost:3000", True),
        ("http://localhost:3000", "https://localhost:3000", False),
        ("wss://example.com/cable", "https://example.com", True),
        ("ws://example.com", "https://example.com", False),
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "http://a.example.com", False),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://a.example.com:8443", False),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("https://*", "https://a.test", True),
        ("https://*", "http://a.test", False),
        ("https://*", "", False),
        ("*://example.com", "https://example.com", True),
        ("http://*:3000", "http://a.test:3000", True),
        ("ionic://localhost", "ionic://localhost", True),
        ("ionic://localhost", "http://localhost", False),
        ("https://a.test,b.test", "http://b.test", True),
        ("https://[::1]:3000", "https://[::1]:3000", True),
        ("http://[::1]", "http://[::1]:80", True),
        # Default ports, which browsers leave out
        ("example.com/", "http://example.com", True),
        ("example.com:443", "https://example.com", True),
        ("example.com:443", "http://example.com", False),
        ("example.com:80", "http://example.com", True),
        ("*.example.com:443", "https://a.example.com", True),
        ("*.example.com:443", "http://a.example.com", False),
        ("[::1]:443", "https://[::1]", True),
        # Names as people write them, and as browsers send them
        ("münchen.example", "https://xn--mnchen-3ya.example", True),
        ("https://MÜNCHEN.example", "https://xn--mnchen-3ya.example", True),
        ("*.straße.example", "https://a.xn--strae-oqa.example", True),
        ("例え。example", "https://xn--r8jz45g.example", True),
    ],
)
def test_hosts_decide(hosts: str, origin: str, allowed: bool) -> None:
    origins = Origins(hosts.split(","))

    assert not origins.is_open
    assert origins.allow(origin) is allowed


def test_clients_that_are_no_browsers_may_be_allowed_without_an_origin() -> None:
    origins = Origins(["example.com"], allows_missing=True)
    assert [origins.allow(each) for each in ("", "https://example.com", "https://evil.test")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "entry",
    [
        "https://",
        "a b",
        "foo.*.com",
        "https://user@a.test",
        "a.test:99999",
        "::1",
        "a.test:",
        "//a.test",
    ],
)
def test_an_entry_that_no_page_can_match_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match=r"expected a host such as example\.com"):
        Origins([entry])


@given(entry=st.text(), origin=st.text())
def test_any_entry_is_read_or_refused(entry: str, origin: str) -> None:
    with contextlib.suppress(ValueError):
        Origins([entry]).allow(f"https://{origin}")


@given(origin=st.text() | st.text().map("http://{}".format))
def test_any_text_is_allowed_or_not(origin: str) -> None:
    allowed = Origins(["ok.test", "*.ok.test"]).allow(origin)

    assert isinstance(allowed, bool)
    assert not allowed or "ok.test" in origin.lower()


@given(
    host=st.from_regex(r"\A[a-z0-9]{1,10}(\.[a-z0-9]{1,10}){0,2}\Z"),
    other=st.from_regex(r"\A[a-z0-9]{1,10}(\.[a-z0-9]{1,10}){0,2}\Z"),
)
def test_an_exact_host_allows_itself_only(host: str, other: str) -> None:
    assert Origins([host]).allow(f"https://{host}")
    assert Origins([host]).allow(f"https://{other}") is (host == other)
    assert Origins([f"*.{host}"]).allow(f"https://{other}.{host}")
