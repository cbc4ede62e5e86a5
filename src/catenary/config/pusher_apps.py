"""The Pusher apps of a server: the one of the flags, and those of ``[[pusher.apps]]``.

Source: https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol and its REST reference.
Knows: options, limits of names. Does not know: connections, requests.
"""

import re
from typing import Final

import msgspec

from catenary.config.options import Options
from catenary.config.urls import http_url
from catenary.errors import ConfigError
from catenary.messages.names import Stream

WEBHOOK_EVENTS: Final = (
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
)

_SAFE: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""Ids and keys are parts of paths, and a key is followed by a colon in signatures."""
_CHANNEL_CHARS: Final = re.compile(r"[A-Za-z0-9_\-=@,.;#]*")


class PusherWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A URL that is notified of events of an app; no ``events`` means all of :data:`WEBHOOK_EVENTS`."""

    url: str
    events: tuple[str, ...] = ()


class PusherApp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Pusher app: its credentials, and what its clients may do.

    - ``secret``: signs subscriptions, users, REST requests and webhooks; empty: nothing signed is accepted.
    - ``stream_prefix``: the stream of a channel is this prefix and the channel's name. No channel's name can begin
      with the prefix of another app. None in a table means ``pusher:ID:``.
    - ``client_events``: clients may send events on private and presence channels, ``max_client_events`` a second at most
      (0: no limit).
    - ``subscription_count``: clients of a channel are notified of its number of subscriptions.
    - ``max_connections``: of this app at one node (0: no limit).
    - ``max_event_size``: of the data of an event, in bytes; ``max_user_info_size``: of the data of a member, in bytes.
    """

    id: str
    key: str
    secret: str
    stream_prefix: str | None = None
    client_events: bool = True
    subscription_count: bool = False
    max_connections: int = 0
    max_client_events: int = 10
    max_event_size: int = 10_240
    max_user_info_size: int = 2_048
    webhooks: tuple[PusherWebhook, ...] = ()

    def stream_of(self, channel: str) -> Stream:
        """The stream of a channel."""
        return Stream(f"{self.stream_prefix or ''}{channel}")

    def channel_of(self, stream: str) -> str | None:
        """The channel of a stream; None if it is not one of this app."""
        prefix = self.stream_prefix or ""
        return stream[len(prefix) :] if stream.startswith(prefix) else None


_read: Final = msgspec.json.Decoder(PusherApp).decode


def pusher_apps(options: Options) -> tuple[PusherApp, ...]:
    """All apps, the one of the flags first; none: Pusher's protocol is not served.

    Raises :class:`ConfigError`, which shows no secret.
    """
    given = options.pusher
    apps: list[PusherApp] = []
    if bool(given.app_id) != bool(given.app_key):
        names = ("pusher_app_id", "pusher_app_key")
        one, other = names if given.app_id else names[::-1]
        raise ConfigError(f"{one}: expected {other} beside it, got {one} alone")
    if not given.app_id and given.secret not in ("", "none", options.access.secret):
        raise ConfigError(
            "pusher_secret: expected pusher_app_id and pusher_app_key beside it, got pusher_secret alone"
        )
    if given.app_id:
        secret = given.secret or options.access.secret
        app = PusherApp(
            id=given.app_id,
            key=given.app_key,
            secret="" if secret == "none" else secret,  # noqa: S105  (a word)
            stream_prefix="",
        )
        _check("pusher", app)
        apps.append(app)
    for number, text in enumerate(given.apps, 1):
        where = f"pusher.apps[{number}]"
        app = _app_of(text, where)
        _check(where, app)
        for other_app in apps:
            _check_apart(where, app, other_app)
        apps.append(app)
    return tuple(apps)


def _app_of(text: str, where: str) -> PusherApp:
    try:
        app = _read(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where}: {_first_small(str(error))}") from None
    if app.stream_prefix is None:
        app = msgspec.structs.replace(app, stream_prefix=f"pusher:{app.id}:")
    return app


def _first_small(text: str) -> str:
    return text[:1].lower() + text[1:]


def _check(where: str, app: PusherApp) -> None:
    """Raises :class:`ConfigError` for an app that can't work."""
    for name, value in (("id", app.id), ("key", app.key)):
        if _SAFE.fullmatch(value) is None:
            raise ConfigError(
                f"{where}: expected letters, digits, _, . and - in the app's {name}, got {value[:40]!r}"
            )
    if where != "pusher" and not app.secret:
        raise ConfigError(f"{where}: expected a secret, got an empty one")
    for name in (
        "max_connections",
        "max_client_events",
        "max_event_size",
        "max_user_info_size",
    ):
        if getattr(app, name) < 0:
            raise ConfigError(f"{where}: expected 0 or more as {name}, got {getattr(app, name)}")
    prefix = app.stream_prefix or ""
    if prefix and (_CHANNEL_CHARS.fullmatch(prefix) or not prefix.isprintable()):
        raise ConfigError(
            f"{where}: expected a stream_prefix with a character that no channel's name has, such as a"
            f" colon, got {prefix!r}"
        )
    for webhook in app.webhooks:
        try:
            http_url(webhook.url)
        except ValueError:
            raise ConfigError(f"{where}: expected http(s)://… as the url of a webhook") from None
        for event in webhook.events:
            if event not in WEBHOOK_EVENTS:
                raise ConfigError(
                    f"{where}: expected webhook events of {', '.join(WEBHOOK_EVENTS)}, got {event[:40]!r}"
                )


def _check_apart(where: str, app: PusherApp, other: PusherApp) -> None:
    """Raises :class:`ConfigError` for two apps that share a name, or could share a stream."""
    for name in ("id", "key"):
        if getattr(app, name) == getattr(other, name):
            raise ConfigError(
                f"{where}: expected an app {name} that no other app has, got that of app {other.id!r}"
            )
    prefixes = sorted((app.stream_prefix or "", other.stream_prefix or ""), key=len)
    if prefixes[0] == prefixes[1] or _CHANNEL_CHARS.fullmatch(
        prefixes[1].removeprefix(prefixes[0])
    ):
        raise ConfigError(
            f"{where}: expected a stream_prefix apart from those of other apps, got {prefixes[1]!r}"
            f" beside {prefixes[0]!r}"
        )
