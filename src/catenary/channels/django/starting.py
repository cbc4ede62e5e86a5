"""Sets up Django in a process that Django did not start: ``catenary project.cable:cable``."""

import django
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from catenary.errors import ConfigError


def set_up() -> None:
    """Sets up Django once. Raises :class:`ConfigError` for settings that are missing or invalid."""
    if apps.ready:
        return
    try:
        django.setup()
    except (ImproperlyConfigured, ModuleNotFoundError) as error:
        raise ConfigError(f"DJANGO_SETTINGS_MODULE: {error}") from error
