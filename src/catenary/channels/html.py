"""HTML tags for pages that use the cable, for any template engine.

Pure functions. Their results are marked as safe for Django, Jinja2 and others that ask for ``__html__``.
Sources: docs of @rails/actioncable, @anycable/web and @hotwired/turbo-rails for the names that their
scripts look up.
Knows: HTML. Does not know: templates, requests.
"""

from html import escape
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from catenary.channels.tokens import signed_stream_name

TURBO_CHANNEL: Final = "Turbo::StreamsChannel"
JWT_PARAM: Final = "jid"
"""The default of the server's option ``jwt_param``, the query parameter of a token."""


class Html(str):
    """Markup that needs no escaping."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def action_cable_meta_tag(url: str) -> Html:
    """The URL of the cable, for ``@rails/actioncable`` and ``@anycable/web``."""
    return _meta("action-cable-url", url)


def action_cable_with_jwt_meta_tag(url: str, token: str, *, param: str = JWT_PARAM) -> Html:
    """The URL of the cable with a token in it, for clients that can't send it otherwise."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode({param: token}))))
    return _meta("action-cable-url", urlunsplit(parts._replace(query=query)))


def cable_jwt_meta_tag(token: str, *, param: str = "") -> Html:
    """The token for ``@anycable/web``; ``param`` is its query parameter, if it is not the client's default."""
    tag = _meta("cable-token", token)
    return Html(tag + _meta("cable-token-param", param)) if param else tag


def turbo_stream_from(*names: object, secret: str, channel: str = TURBO_CHANNEL) -> Html:
    """The element with which Turbo subscribes to a stream: its name, or objects that name it.

    Raises TypeError for an object without a name, ValueError for an empty secret.
    """
    return Html(
        f'<turbo-cable-stream-source channel="{escape(channel)}"'
        f' signed-stream-name="{escape(signed_stream_name(*names, secret=secret))}">'
        "</turbo-cable-stream-source>"
    )


def turbo_stream(action: str, target: str = "", content: str | None = None) -> Html:
    """A Turbo Stream action: ``append`` the content to the element with the id ``target``, ``remove`` it, and
    so on. Content that is not marked as safe is escaped."""
    where = f' target="{escape(target)}"' if target else ""
    if content is None:
        within = ""
    else:
        safe = getattr(content, "__html__", None)
        within = f"<template>{escape(content) if safe is None else safe()}</template>"
    return Html(f'<turbo-stream action="{escape(action)}"{where}>{within}</turbo-stream>')


def _meta(name: str, content: str) -> Html:
    return Html(f'<meta name="{name}" content="{escape(content)}">')
