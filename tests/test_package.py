"""The package ``catenary``: its public names, and what importing them loads."""

import subprocess
import sys

import pytest


def test_importing_the_package_or_the_channels_needs_no_server() -> None:
    script = (
        "import sys, catenary; assert 'msgspec' not in sys.modules; "
        "from catenary import Cable, Channel, Connection, action, callback, every, rescue_from; "
        "heavy = {'uvicorn', 'starlette', 'uvloop', 'grpc', 'httptools', 'google'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "assert not [m for m in sys.modules if m.startswith('catenary.node')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import catenary

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        catenary.nothing  # type: ignore[attr-defined]  # noqa: B018
