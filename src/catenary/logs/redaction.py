"""Removes secrets from log lines.

Call sites log no secret. But identifiers, data and error messages come from elsewhere: the signed name of a stream is a field of
an identifier, a library names the URL that it could not reach. The formatters call this for every line, as they escape it.
Knows: how secrets look. Does not know: the configuration.
"""

import re
from typing import Final

SHOWN: Final = "[hidden]"
"""Stands for a secret."""

_WORDS: Final = (
    "token|secret|passw(?:or)?d|passphrase|passcode|signed|signature|authorization|cookie|credential|api[-_]?key"
    "|access[-_]?key|private[-_]?key|csrf"
)
_NAME: Final = rf"(?:(?=[\w.-]*?(?:{_WORDS}))[\w.-]++|auth|pass|pwd|otp|pin|(?:x-)?jid)"
"""Names of fields, parameters and headers whose values are secrets. A name is looked for once at each place: hostile text must not
take a time that grows with its square."""

_MEMBER: Final = re.compile(
    rf"""(?:(?P<quote>(?<!\\)\\*+["']){_NAME}(?P=quote)|(?<![\w.-]){_NAME})\s*+(?:=>|[:=])\s*+"""
    rf"""(?P<open>\\*+["'])(?P<value>.*?)(?:(?<!\\)(?P=open)|\Z)""",
    re.IGNORECASE | re.DOTALL,
)
"""A field whose value is quoted: of a JSON object, whose quotes are escaped if the object is text within another; of a line."""

_UNQUOTED: Final = re.compile(
    rf"""(?P<start>(?P<quote>(?<!\\)\\*+["']){_NAME}(?P=quote)\s*+(?:=>|[:=])\s*+)(?:-?\d[\w.+-]*+|[\[{{].*)""",
    re.IGNORECASE | re.DOTALL,
)
"""A field whose value is a number, or has fields or elements: where those end is not looked for."""

_PARAMETER: Final = re.compile(
    rf"(?P<start>(?:^|[?&;,/\s]|%3[fb]|%2[6f]){_NAME}(?:=|%3d))[^&;,\s\"'\\]+", re.IGNORECASE
)
"""A parameter of a query, which may be percent-encoded by mistake."""

_USERINFO: Final = re.compile(r"://(?:[^/\s@\"']++|[^/\s@:\"']{0,200}+:[^\s@\"']{0,200}+)@")
"""The password of a URL; one with a slash should be percent-encoded, but is a secret, too."""
_BEARER: Final = re.compile(
    r"(?P<start>\b(?:bearer|basic)\s+|\banycable-token\.)(?!with )[\w.~+/=-]{4,}", re.IGNORECASE
)
_COOKIE: Final = re.compile(r"(?P<start>\bcookie:\s*)[^\r\n]+", re.IGNORECASE)
_JWT: Final = re.compile(r"\beyJ[\w-]{6,}(?:\.[\w-]*){0,2}")
_SIGNED: Final = re.compile(r"(?<![\w+/=%-])[\w+/=%-]{4,}--[0-9a-f]{40,}")
"""Texts signed by Rails' message verifier: names of streams, sessions in cookies."""

_HINTS: Final = (
    *(
        "token",
        "secret",
        "passw",
        "passphrase",
        "passcode",
        "signed",
        "signature",
        "authorization",
        "cookie",
    ),
    *(
        "credential",
        "apikey",
        "api_key",
        "api-key",
        "accesskey",
        "access_key",
        "access-key",
        "privatekey",
    ),
    *("private_key", "private-key", "csrf", "jid", "bearer", "basic", "eyj", "--"),
)
_SHORT_HINT: Final = re.compile(r"\b(?:auth|pass|pwd|otp|pin)\b")
"""One of these, in lower case, is in every text with a secret: they are found in a tenth of the time of the patterns, or less."""


def redacted(text: str) -> str:
    """The text without the secrets that are recognized by their form or by the name of their field."""
    if "@" in text:
        text = _USERINFO.sub(f"://{SHOWN}@", text)
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS) and _SHORT_HINT.search(lowered) is None:
        return text
    text = _MEMBER.sub(_without_value, text)
    text = _UNQUOTED.sub(rf"\g<start>{SHOWN}", text)
    text = _PARAMETER.sub(rf"\g<start>{SHOWN}", text)
    text = _BEARER.sub(rf"\g<start>{SHOWN}", text)
    text = _COOKIE.sub(rf"\g<start>{SHOWN}", text)
    text = _JWT.sub(SHOWN, text)
    return _SIGNED.sub(SHOWN, text)


def _without_value(found: re.Match[str]) -> str:
    start, end = found.span("value")
    whole, offset = found.group(), found.start()
    return whole[: start - offset] + SHOWN + whole[end - offset :]
