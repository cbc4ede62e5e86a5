"""The units of deploy/systemd, as far as that is possible where systemd does not run: systemd-analyze reads them, and a server
runs with the system calls that they permit.

What systemd does to a service is tested in tests/process (test_activation.py, test_notifier.py).
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from catenary.config.effective import effective
from tests.config.sources import options
from tests.parts import confined
from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket
from tests.parts.server import OURS
from tests.parts.service_manager import Service

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
MAX_EXPOSURE = 12
"""Tenths of systemd's scale, which ends at 10; most distributions' services are above 90."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with a server that exists."""
    program = Path(sys.executable).with_name("catenary")
    for path in UNITS.iterdir():
        text = re.sub(r"/opt/catenary/(%i/)?bin/catenary", str(program), path.read_text())
        (tmp_path / path.name).write_text(text)
    return tmp_path


def test_systemd_accepts_the_units(installed: Path) -> None:
    units = ["./catenary.service", "./catenary.socket", "./catenary@1.2.3.service"]
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("name", ["catenary.service", "catenary@.service"])
def test_the_service_may_do_little(installed: Path, name: str) -> None:
    found = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--no-pager"),
            *(f"--threshold={MAX_EXPOSURE}", f"./{name}"),
        ],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_a_version_differs_from_the_one_server_in_its_path_only() -> None:
    one = (UNITS / "catenary.service").read_text().splitlines()[1:]
    version = (UNITS / "catenary@.service").read_text().splitlines()[1:]
    assert [each.replace(" %i", "").replace("/%i", "") for each in version] == one


@pytest.mark.parametrize("name", ["catenary.service", "catenary@.service"])
def test_a_version_that_fails_does_not_close_the_sockets(name: str) -> None:
    """At the limit of starts of a service, systemd stops its socket, at which another version may serve."""
    unit, service = (UNITS / name).read_text().split("[Service]")
    assert "\nStartLimitIntervalSec=0\n" in unit
    assert "\nRestart=" in service


def test_the_sockets_are_the_default_ports() -> None:
    served = effective(options())
    text = (UNITS / "catenary.socket").read_text()
    ports = {int(each) for each in re.findall(r"^ListenStream=.*:(\d+)$", text, re.MULTILINE)}
    assert ports == {served.server.port, served.http_broadcast.port}


def test_a_server_needs_no_other_system_calls() -> None:
    """With workers, which are processes."""
    port = free_port()
    flags = ("--public", "--norpc", "--broadcast_adapter=http", "--host=127.0.0.1", "--workers=2")
    ports = (f"--port={port}", f"--http_broadcast_port={free_port()}")
    command = (
        sys.executable,
        confined.__file__,
        ",".join(sorted(permitted())),
        *OURS,
        *flags,
        *ports,
    )
    with Service(command, watchdog_s=30) as service:
        service.wait_for(lambda found: "READY" in found)
        with RawSocket(port) as client:
            client.open()
        assert service.stop() == 0


def permitted() -> set[str]:
    """The system calls of the service, which SystemCallFilter= names by groups."""
    text = (UNITS / "catenary.service").read_text()
    granted, refused = re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE)
    found = _calls_of("@default") | _calls_of(granted)
    for group in refused.removeprefix("~").split():
        found -= _calls_of(group)
    return found


def _calls_of(group: str) -> set[str]:
    printed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: set[str] = set()
    for line in printed.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= _calls_of(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found
