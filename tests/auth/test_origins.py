"""Which pages may connect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.auth.origins import Origins


@pytest.mark.parametrize("hosts", [[], [""], ["", "  "]], ids=["none", "empty", "blank"])
@pytest.mark.parametrize("origin", ["", "null", "http://example.com", "nonsense", "http://["])
def test_without_hosts_everybody_may_come(hosts: list[str], origin: str) -> None:
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
    ],
)
def test_hosts_decide(hosts: str, origin: str, allowed: bool) -> None:
    origins = Origins(hosts.split(","))

    assert not origins.is_open
    assert origins.allow(origin) is allowed


@given(origin=st.text() | st.text().map("http://{}".format))
def test_any_text_is_judged(origin: str) -> None:
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
