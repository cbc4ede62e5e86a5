"""The variables of a file of deploy/, and the options of a server with them."""

import shlex

from catenary.config.options import SHORTHANDS, TABLE, Options
from tests.config.sources import request
from tests.parts.image import ROOT, stages

END_S = 5
"""After the shutdown, until the process has ended."""

KNOWN = {
    "ANYCABLE_FLY_RPC_APP_NAME",  # config/presets.py
    *(variable for row in TABLE for variable in row.option.variables),
    *(f"ANYCABLE_{row.flag.upper()}" for row in SHORTHANDS),
}


def configured(**variables: str) -> Options:
    """The options of a server with these variables, each of which must be known to it."""
    ours = {name for name in variables if name.startswith("ANYCABLE_")}
    assert ours - KNOWN == set()
    found = request(environ=variables)
    assert found.warnings == ()
    return found.options


def of_image() -> dict[str, str]:
    """The variables that deploy/Dockerfile sets."""
    (text,) = (each.text for each in stages(ROOT / "deploy/Dockerfile")[-1] if each.name == "ENV")
    return dict(word.split("=", 1) for word in shlex.split(text))


def stop_s(options: Options) -> int:
    """How long a platform must wait at least before it kills the server, in seconds."""
    return options.node.shutdown_delay_s + options.node.shutdown_timeout_s + END_S
