"""The setting ``CATENARY``: its keys and their defaults.

It is read each time that it is used, so that tests can override it.
Knows: Django's settings, options. Does not know: requests, models.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac

from catenary.channels.cable import Cable
from catenary.channels.loading import load
from catenary.config.load import given_by_name
from catenary.config.options import variable_of
from catenary.errors import ConfigError

ASGI: Final = "catenary.channels.django.asgi:application"
VARIABLE: Final = "ANYCABLE_SECRET"
SALT: Final = "catenary.channels.django"


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="upper"):
    """``CATENARY``, a dict with these names in capitals as keys; all are optional."""

    cable: str = ""
    """``module:name`` of the project's cable."""
    asgi: str = ASGI
    """``module:name`` of the ASGI application that ``--asgi`` serves."""
    url: str = "/cable"
    """The URL of the cable for browsers."""
    secret: str = ""
    """The secret that signs tokens and stream names; see :func:`secret`."""
    publisher: str = ""
    """The URL with which other processes than the server publish."""
    api_url: str = ""
    """The URL of the server's API, from which other processes read."""
    identifiers: str = ""
    """The dotted path of a function, request → identifiers for a token, None for no token."""
    token_ttl: float = 3600
    """How long a token is valid, in seconds."""
    options: dict[str, Any] = {}
    """Options of the server, by the names of their flags. Environment variables and flags override them."""


def configuration() -> Configuration:
    """Reads the setting. Raises :class:`ImproperlyConfigured`."""
    try:
        return msgspec.convert(getattr(settings, "CATENARY", {}), Configuration)
    except msgspec.ValidationError as error:
        raise ImproperlyConfigured(f"CATENARY: {error}") from error


def secret() -> str:
    """``CATENARY["SECRET"]``, or ``ANYCABLE_SECRET``, or a secret that is derived from ``SECRET_KEY``.

    The derived one does not reveal ``SECRET_KEY``, so it can be given to a server.
    """
    given = configuration().secret or os.environ.get(VARIABLE, "")
    return given or salted_hmac(SALT, "", algorithm="sha256").hexdigest()


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the server, which has the secret: every user can read a command line.

    ``environ`` overrides ``OPTIONS``; the secret is that of the cable. Raises
    :class:`catenary.errors.ConfigError`.
    """
    options = configuration().options
    given_by_name(options)
    own = {variable_of(name): _text(value) for name, value in options.items()}
    return {**own, **environ, VARIABLE: secret()}


def project_cable() -> Cable:
    """The cable of the project. Raises :class:`ImproperlyConfigured`."""
    where = configuration().cable
    if not where:
        raise ImproperlyConfigured('expected CATENARY = {"CABLE": "module:cable"}, got none')
    try:
        return load(where)
    except ConfigError as error:
        raise ImproperlyConfigured(f"CATENARY: CABLE: {error}") from error


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
