"""Imports a cable, or another object of an application, by its name ``module:name``."""

import importlib
import os
import sys
import traceback
from importlib.util import find_spec
from pathlib import Path

from catenary.channels.cable import Cable
from catenary.errors import ConfigError, ImportFailed


def load(where: str) -> Cable:
    """Imports a cable; the current directory is searched, too.

    Raises :class:`ConfigError`; :class:`ImportFailed` if the module itself raises an exception.
    """
    found = named(where, "a cable")
    if not isinstance(found, Cable):
        raise ConfigError(f"{where}: expected a Cable, got {kind_of(found)}{_cable_beside(where)}")
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
            raise _failed(where, error) from error
        raise ConfigError(
            f"{where}: no module {error.name!r} in {here} or on PYTHONPATH: change to the directory"
            " of the application, or correct the name"
        ) from error
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(where, error) from error
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _cable_beside(where: str) -> str:
    """The end of an error that names the cables of the module, if it has some."""
    module_name = where.partition(":")[0]
    members = vars(sys.modules[module_name]).items()
    found = [f"{module_name}:{name}" for name, each in members if isinstance(each, Cable)]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _failed(where: str, error: BaseException) -> ImportFailed:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ImportFailed(f"{where}: its module can't be imported{_place(error)}: {text}")


def _place(error: BaseException) -> str:
    """Where a module has failed: the innermost line in the current directory, else the innermost line."""
    if isinstance(error, SyntaxError):
        return ""  # its text says where
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(Path.cwd())]
    frame = (own or frames)[-1]
    return f" at {frame.filename}, line {frame.lineno}"


def kind_of(found: object) -> str:
    """The type of an object, for an error."""
    return "nothing" if found is None else type(found).__name__
