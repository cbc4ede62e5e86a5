"""Entries of allowed_origins; which pages they match is in tests/auth/test_origins.py."""

import pytest

from catenary.config.origins import AllowedOrigin, allowed_origin


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("example.com", AllowedOrigin("", "example.com", is_suffix=False)),
        ("Example.COM:3000", AllowedOrigin("", "example.com:3000", is_suffix=False)),
        ("*.example.com", AllowedOrigin("", ".example.com", is_suffix=True)),
        ("https://example.com/a?b", AllowedOrigin("https", "example.com", is_suffix=False)),
        ("https://example.com:443", AllowedOrigin("https", "example.com", is_suffix=False)),
        ("http://example.com:443", AllowedOrigin("http", "example.com:443", is_suffix=False)),
        ("wss://example.com/cable", AllowedOrigin("https", "example.com", is_suffix=False)),
        ("https://[::1]:3000", AllowedOrigin("https", "[::1]:3000", is_suffix=False)),
        ("bücher.example", AllowedOrigin("", "xn--bcher-kva.example", is_suffix=False)),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_entry(entry: str, expected: AllowedOrigin) -> None:
    assert allowed_origin(entry) == expected


@pytest.mark.parametrize(
    "entry", ["", "a b", "b.*.test", "example.com:99999", "http://", "a.test:x"]
)
def test_an_entry_that_no_page_could_match(entry: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        allowed_origin(entry)
