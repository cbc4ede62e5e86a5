"""What a cable needs in a Django project: ``Cable(channels=[…], **in_django())``."""

from collections.abc import Callable
from typing import TypedDict

from django.db import transaction

from catenary.channels.django.configuration import configuration, secret
from catenary.channels.django.databases import database_connections
from catenary.channels.publishers import publisher
from catenary.channels.publishing import Publisher, When
from catenary.channels.running import Around


class Arguments(TypedDict, total=False):
    """Those of ``Cable`` that Django's settings answer."""

    around: Around
    publish_when: When
    publisher: Publisher
    secret: str
    api_url: str


def in_django() -> Arguments:
    """Secrets and addresses as in ``CATENARY``, publishing after commit, connections to databases
    as around requests. Raises :class:`ImproperlyConfigured` and :class:`ConfigError`."""
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
    """At once where no transaction is open, and without asking the database. What fails behind a
    commit is logged by Django: what was committed has happened all the same."""
    if transaction.get_connection(using).in_atomic_block:
        transaction.on_commit(publish, using=using, robust=True)
    else:
        publish()
