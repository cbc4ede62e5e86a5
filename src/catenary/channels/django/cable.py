"""The arguments of a cable in a Django project: ``Cable(channels=[…], **in_django())``."""

from collections.abc import Callable
from typing import TypedDict

from django.db import transaction

from catenary.channels.django.configuration import configuration, secret
from catenary.channels.django.databases import database_connections
from catenary.channels.publishers import publisher
from catenary.channels.publishing import Publisher, When
from catenary.channels.running import Around


class Arguments(TypedDict, total=False):
    """The arguments of ``Cable`` that Django's settings determine."""

    around: Around
    publish_when: When
    publisher: Publisher
    secret: str
    api_url: str


def in_django() -> Arguments:
    """Secrets and URLs of the setting ``CATENARY``, publishing after commit, and database connections that
    are closed as around requests. Raises :class:`ImproperlyConfigured` and :class:`ConfigError`."""
    found = configuration()
    signed_with = secret()
    arguments: Arguments = {
        "around": database_connections,
        "publish_when": after_commit,
        "secret": signed_with,
    }
    if found.publisher:
        arguments["publisher"] = publisher(found.publisher, secret=signed_with)
    if found.api_url:
        arguments["api_url"] = found.api_url
    return arguments


def after_commit(publish: Callable[[], object], using: str | None = None) -> None:
    """Calls ``publish`` after the commit of the open transaction, or at once if there is none.

    Does not use the database. Django logs an exception after a commit, which does not undo the commit.
    """
    if transaction.get_connection(using).in_atomic_block:
        transaction.on_commit(publish, using=using, robust=True)
    else:
        publish()
