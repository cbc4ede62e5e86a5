"""``module:name`` → the cable that it names."""

import importlib
import sys
from pathlib import Path

from catenary.channels.cable import Cable
from catenary.errors import ConfigError


def load(where: str) -> Cable:
    """Imports a cable; the current directory is searched, too. Raises :class:`ConfigError`.

    What the module itself raises when it is imported is not caught.
    """
    module_name, colon, name = where.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"expected a cable as module:name, got {where!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"{where}: no module {error.name!r} here or on the path") from error
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Cable):
        kind = "nothing" if found is None else type(found).__name__
        raise ConfigError(f"{where}: expected a Cable, got {kind}")
    return found
