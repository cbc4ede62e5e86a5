"""The session and the user of a client, from Django's session cookie.

Sessions are only read: a WebSocket can't set a cookie, so the browser would lose a session that got
another key here. Works if the server passes the cookie on, also behind RPC.
Source: django/contrib/auth/__init__.py, get_user; django/contrib/sessions/middleware.py.
"""

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth
from django.http import HttpRequest

from catenary.channels import connection

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser


class Request(connection.Request):
    """The HTTP request of the client, with its session and user. Each is read once in a call."""

    @cached_property
    def session(self) -> Mapping[str, Any]:
        """The session, empty if there is none. If sessions are in the database: in plain methods, or after
        ``await load_session()``."""
        return self._session

    async def load_session(self) -> Mapping[str, Any]:
        """The session, in coroutines."""
        return await sync_to_async(lambda: self.session)()

    def get_user(self) -> "AbstractBaseUser | AnonymousUser":
        """The user who is logged in, or an ``AnonymousUser``; in plain methods."""
        return self._user

    async def user(self) -> "AbstractBaseUser | AnonymousUser":
        """The user who is logged in, or an ``AnonymousUser``; in coroutines."""
        return await sync_to_async(self.get_user)()

    @cached_property
    def _session(self) -> "_ReadSession":
        key = self.cookies.get(settings.SESSION_COOKIE_NAME)
        if not key:
            return _ReadSession()
        store = import_module(settings.SESSION_ENGINE).SessionStore(key)
        return _ReadSession(store.items())

    @cached_property
    def _user(self) -> "AbstractBaseUser | AnonymousUser":
        request = HttpRequest()
        request.session = cast("Any", self._session)
        return auth.get_user(request)


class DjangoConnection(connection.Connection):
    """A connection of a Django project: ``self.request`` has the session and the user."""

    @cached_property
    def request(self) -> Request:
        """The HTTP request that opened the connection."""
        return Request(self._environment)


class _ReadSession(dict[str, Any]):
    """A session that is only read, with the methods that ``get_user`` calls. Changes are not stored."""

    def cycle_key(self) -> None:
        """Does nothing: the browser gets another key with its next HTTP request."""

    def flush(self) -> None:
        """Clears the session in memory: it has no user."""
        self.clear()
