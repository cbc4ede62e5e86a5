"""Checks of the ports to listen on: free, or taken, and by which process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from catenary.config.addresses import listening_address
from catenary.config.options import Options
from catenary.errors import BackendError, ConfigError
from catenary.process.binding import ListenAddress, bind
from catenary.terminal import health
from catenary.terminal.doctor.findings import Finding, ok, problem, warning
from catenary.terminal.server_settings import ServerSettings

_LISTENS: Final = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def check_ports(options: Options) -> Iterator[Finding]:
    """Each port of the server, once."""
    for address in _addresses(options):
        yield _port(options, address)


def _addresses(options: Options) -> Iterator[ListenAddress]:
    from catenary.server.http_routes import shared_addresses

    yield from shared_addresses(options)
    enats = options.enats
    for name, text in (
        ("enats_addr", enats.address),
        ("enats_cluster", enats.cluster_address),
        ("enats_gateway", enats.gateway_address),
    ):
        if enats.enabled and text:
            found = listening_address(text)
            yield ListenAddress(found.host, found.port, name, name)


def _port(options: Options, address: ListenAddress) -> Finding:
    name = address.port_option
    try:
        sockets = bind(address)
    except ConfigError as error:
        holder = _holder(address.port)
        if "in use" not in str(error):
            return problem(name, str(error).removeprefix(f"{name}: "), f"choose another {name}")
        if _answers(options):
            text = f"port {address.port} is taken{holder}, and a Catenary answers at {options.server.port}"
            return warning(name, text, "if it is another one, stop it or choose another port")
        text = f"port {address.port} is taken{holder}"
        return problem(name, text, f"stop that process, or choose another {name}")
    for each in sockets:
        each.close()
    return ok(name, f"port {address.port} is free")


def _answers(options: Options) -> bool:
    """Whether a server with this configuration may run there already."""
    try:
        return health.asked(ServerSettings(options).ready_url, 2).is_ours
    except BackendError:
        return False


def _holder(port: int) -> str:
    """The process that listens on a port; empty if this user may not know it."""
    wanted = {
        f"socket:[{fields[9]}]"
        for name in ("tcp", "tcp6")
        for fields in _sockets(name)
        if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if not wanted.isdisjoint(_files(process)):
                # Not its command line, which may contain secrets.
                name = (process / "comm").read_text(errors="replace").strip()
                return f" by process {process.name} ({name})"
        except OSError:
            continue
    return ""


def _files(process: Path) -> Iterator[str]:
    """The targets of the open files of a process. Raises OSError."""
    for each in (process / "fd").iterdir():
        # It may be closed by now.
        with contextlib.suppress(FileNotFoundError):
            yield str(each.readlink())


def _sockets(name: str) -> list[list[str]]:
    try:
        return [line.split() for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    except OSError:
        return []
