"""System checks: ``manage.py check`` reports errors in the setting ``CATENARY``."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from catenary.channels.django.configuration import (
    Configuration,
    configuration,
    project_cable,
    server_environment,
)
from catenary.channels.publishers import publisher
from catenary.errors import ConfigError


def check_configuration(
    app_configs: Sequence[AppConfig] | None, **options: Any
) -> list[CheckMessage]:
    """All errors, each with its key in ``CATENARY``."""
    try:
        found = configuration()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="catenary.E001")]
    return list(_errors(found))


def _errors(found: Configuration) -> Iterator[CheckMessage]:
    if found.cable:
        try:
            project_cable()
        except ImproperlyConfigured as error:
            yield Error(str(error), hint="CABLE is module:name.", id="catenary.E002")
    try:
        server_environment({})
    except ConfigError as error:
        yield Error(
            f"CATENARY: OPTIONS: {error}",
            hint="Options are named as the flags of catenary --help-all.",
            id="catenary.E003",
        )
    if found.publisher:
        try:
            publisher(found.publisher).close()
        except ConfigError as error:
            yield Error(f"CATENARY: PUBLISHER: {error}", id="catenary.E004")
    if found.identifiers:
        try:
            is_function = callable(import_string(found.identifiers))
        except ImportError as error:
            yield Error(f"CATENARY: IDENTIFIERS: {error}", id="catenary.E005")
        else:
            if not is_function:
                yield Error(
                    "CATENARY: IDENTIFIERS: expected the dotted path of a function",
                    id="catenary.E005",
                )
