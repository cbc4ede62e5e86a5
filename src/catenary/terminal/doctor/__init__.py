"""Checks what a server with these options needs, and says what to do.

  catenary doctor
  catenary doctor --redis_url=redis://cache:6379 --broker=redis
  catenary doctor app:cable --app_workers=2

Takes a server's options, and reads the same variables and file. Stores nothing,
and does not call the application. Prints a line for each check: JSON unless
standard output is a terminal. Exit status: 1 if there is a problem.
"""

import argparse
import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Final

from catenary.config.checks import check_redis as check_redis_addresses
from catenary.config.effective import effective, keys
from catenary.config.load import StartRequest, load
from catenary.config.options import Options
from catenary.config.urls import is_everywhere
from catenary.errors import CatenaryError, ConfigError
from catenary.terminal.console import consoles
from catenary.terminal.doctor import application, files, machine, ports, system
from catenary.terminal.doctor.findings import Finding, Report, ok, problem, warning
from catenary.terminal.running import Invocation

LIMIT_S: Final = 15.0
"""Time limit of all checks of one service; each request has a shorter one."""

Reach = Callable[[Options], AsyncIterator[Finding]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON lines on a terminal, too")


def run(invocation: Invocation) -> int:
    words = list(invocation.arguments.server_flags)
    cable = words.pop(0) if words and ":" in words[0] and not words[0].startswith("-") else None
    out, _ = consoles(invocation.environ)
    report = Report(out, as_json=invocation.arguments.json or not out.is_terminal)
    try:
        request = load(words, invocation.environ, invocation.read, with_cable=cable is not None)
        options = effective(request.options)
        warnings = [*request.warnings, *check_redis_addresses(options)]
    except ConfigError as error:
        report.add(problem("configuration", str(error), "the server does not start with this"))
        return report.end()
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the findings say the same
    try:
        for finding in _local(request, options, warnings, cable):
            report.add(finding)
        asyncio.run(_reach_all(options, report, is_called=cable is None))
    finally:
        logging.disable(previous)
    return report.end()


def _local(
    request: StartRequest, options: Options, warnings: Iterable[str], cable: str | None
) -> Iterator[Finding]:
    """The checks of this machine."""
    yield from _configuration(request, options, warnings)
    yield from machine.check_interpreter()
    yield from machine.check_extras(options)
    yield from files.check_files(options, request.config_path)
    yield from machine.check_limits(options)
    yield from system.check_system(options)
    yield from ports.check_ports(options)
    if cable is not None:
        yield from application.check_cable(cable)


def _configuration(
    request: StartRequest, options: Options, warnings: Iterable[str]
) -> Iterator[Finding]:
    sources = f"from {request.config_path}" if request.config_path else "without a file"
    presets = f", presets {', '.join(request.presets)}" if request.presets else ""
    yield ok("configuration", f"complete, {sources}{presets}")
    for text in warnings:
        yield warning("configuration", text, "correct or remove it")
    if options.access.public:
        text = "with --public, anyone may connect, subscribe and publish"
        yield warning("access", text, "leave it out in production, and set a secret")
    elif (
        "http" in options.broadcast.adapters
        and keys(options).broadcast is None
        and _is_reachable(options)
    ):
        text = f"anyone who reaches port {options.http_broadcast.port} may publish"
        yield warning("access", text, "set a secret, or broadcast_key")


def _is_reachable(options: Options) -> bool:
    host = options.server.host
    return is_everywhere(host) or host not in ("localhost", "127.0.0.1", "::1", "[::1]")


async def _reach_all(options: Options, report: Report, *, is_called: bool) -> None:
    """Reaches everything at the same time; prints in a fixed order."""
    from catenary.terminal.doctor.nats import check_nats
    from catenary.terminal.doctor.redis import check_redis
    from catenary.terminal.doctor.services import check_services

    checks: list[tuple[str, Reach]] = [
        ("redis", check_redis),
        ("nats", check_nats),
        ("services", check_services),
    ]
    if is_called:
        checks.append(("application", application.check_application))
    tasks = [asyncio.create_task(_within_limit(name, check, options)) for name, check in checks]
    for task in tasks:
        for finding in await task:
            report.add(finding)


async def _within_limit(name: str, check: Reach, options: Options) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(LIMIT_S):
            async for finding in check(options):
                found.append(finding)  # noqa: PERF401  (those before a timeout count)
    except TimeoutError:
        advice = "check that it runs, and that no firewall is in between"
        found.append(problem(name, f"no answer within {LIMIT_S:g} s", advice))
    except CatenaryError as error:
        found.append(problem(name, str(error), "correct this option"))
    return found
