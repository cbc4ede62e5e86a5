"""The package ``catenary``: its public names, and what importing them loads."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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


def test_the_wheel_contains_every_file_of_the_package(tmp_path: Path) -> None:
    """Above all those that Python does not import, such as the pages of the console."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "catenary").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert "catenary/console/pages/index.html" in files
    assert files <= packed
