"""A virtual environment with nothing but what some requirements name.

The packages are those of the environment that runs the tests, so nothing is downloaded: it links those that the
metadata name, and no others. So a dependency that an extra does not name is missing there, as it is for a user.
"""

import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def link_packages(venv: Path, *roots: str, without: str = "", copied_to: str = "") -> None:
    """Links what requirements such as ``catenary[server]`` need, and its programs, into a venv, but not the package ``without``.

    With ``copied_to``, files are copied; that is the path under which the venv's own programs will see it.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target, scripts = venv / "lib" / version / "site-packages", Path(sysconfig.get_path("scripts"))
    for name in required(*roots) - {without}:
        programs = metadata.distribution(name).entry_points.select(group="console_scripts")
        for file in metadata.distribution(name).files or ():
            source = Path(str(file.locate())).resolve()
            if source.name in programs.names and source.parent == scripts:
                continue  # its first line names another interpreter
            link = venv / "bin" / source.name if source.parent == scripts else target / file
            link.parent.mkdir(parents=True, exist_ok=True)
            if source.exists() and not link.exists():
                if copied_to:
                    shutil.copy2(
                        source, link
                    )  # with its time, by which Python trusts what it has compiled
                else:
                    link.symlink_to(source)
        for script in programs:
            module, _, function = script.value.partition(":")
            program = venv / "bin" / script.name
            program.write_text(
                f"#!{copied_to or venv}/bin/python\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
            )
            program.chmod(0o755)


def required(*roots: str) -> set[str]:
    """The names of all packages that requirements need here, by the metadata of what is installed."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *sorted(requirement.extras)):
            key = (requirement.name.lower().replace("_", "-"), extra)
            if key in found:
                continue
            found.add(key)
            for text in metadata.requires(requirement.name) or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return {name for name, _ in found}
