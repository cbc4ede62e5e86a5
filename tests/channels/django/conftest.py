"""Django in this process, with the settings of ``project`` and a database in a file."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from tests.channels.django.project import settings as project

DIRECTORY = tempfile.TemporaryDirectory(prefix="catenary-django-")
DATABASE = Path(DIRECTORY.name, "db.sqlite3")

if not settings.configured:
    values = {name: value for name, value in vars(project).items() if name.isupper()}
    default = {**project.DATABASES["default"], "NAME": str(DATABASE)}
    settings.configure(**{**values, "DATABASES": {"default": default}})
    django.setup()


@pytest.fixture(scope="session", autouse=True)
def _tables() -> Iterator[None]:
    call_command("migrate", run_syncdb=True, verbosity=0)
    connections.close_all()
    yield
    connections.close_all()
    DIRECTORY.cleanup()


@pytest.fixture(autouse=True)
def _empty_tables() -> Iterator[None]:
    yield
    call_command("flush", interactive=False, verbosity=0)
    connections.close_all()


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of another process of the same project."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.channels.django.project.settings",
        "PROJECT_DATABASE": str(DATABASE),
    }
