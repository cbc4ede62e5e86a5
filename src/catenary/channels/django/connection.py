"""Who a client is, from Django's session cookie.

Nothing is written: a WebSocket can't set a cookie, so a session that got another key here would be
lost to the browser. Works wherever the server passes the cookie on, as it does behind RPC.
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
    """How the client came, with its session and its user. Each is read once in a call."""

    @cached_property
    def session(self) -> Mapping[str, Any]:
        """What the session contains, empty where there is none. In plain methods, or behind
        ``await load_session()``, where sessions are in the database."""
        return self._session

    async def load_session(self) -> Mapping[str, Any]:
        """The same in a coroutine."""
        return await sync_to_async(lambda: self.session)()

    def get_user(self) -> "AbstractBaseUser | AnonymousUser":
        """Who is logged in, an ``AnonymousUser`` where nobody is; in plain methods."""
        return self._user

    async def user(self) -> "AbstractBaseUser | AnonymousUser":
        """The same in a coroutine."""
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
    """A client of a Django project: ``self.request`` knows its session and its user."""

    @cached_property
    def request(self) -> Request:
        """How the client came."""
        return Request(self._environment)


class _ReadSession(dict[str, Any]):
    """What was read of a session, with what ``get_user`` asks of one: here alone, nothing is kept."""

    def cycle_key(self) -> None:
        """The browser knows its key, and is given another with its next request."""

    def flush(self) -> None:
        """The session belongs to nobody any more."""
        self.clear()
