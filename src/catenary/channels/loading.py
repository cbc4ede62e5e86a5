"""Imports a cable, or another object of an application, by its name ``module:name``."""

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from catenary.channels.cable import Cable
from catenary.errors import ConfigError


def load(where: str) -> Cable:
    """Imports a cable; the current directory is searched, too. Raises :class:`ConfigError`.

    Exceptions that the module raises during its import are not caught.
    """
    found = named(where, "a cable")
    if not isinstance(found, Cable):
        raise ConfigError(f"{where}: expected a Cable, got {kind_of(found)}")
    return found


def named(where: str, what: str) -> object:
    """Imports the object with this name; None if there is none. Raises like :func:`load`."""
    module_name, colon, name = where.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"expected {what} as module:name, got {where!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if os.environ.get("DJANGO_SETTINGS_MODULE") and find_spec("django") is not None:
        # Models can be imported only after Django has loaded its applications.
        from catenary.channels.django.starting import set_up

        set_up()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"{where}: no module {error.name!r} here or on the path") from error
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def kind_of(found: object) -> str:
    """The type of an object, for an error."""
    return "nothing" if found is None else type(found).__name__
