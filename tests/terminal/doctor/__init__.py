"""``catenary doctor``: each check seen right and wrong, with real parts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from catenary.config.effective import effective
from catenary.config.options import Options
from catenary.terminal.doctor.findings import Finding
from tests.config.sources import options


def configured(*flags: str) -> Options:
    """Effective options."""
    return effective(options(*flags))


def reached(check: Callable[[Options], AsyncIterator[Finding]], *flags: str) -> list[Finding]:
    """The findings of a check of a service, in an event loop of its own."""

    async def collect() -> list[Finding]:
        return [each async for each in check(configured(*flags))]

    return asyncio.run(collect())


def shown(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Levels and sentences."""
    return [(each.level, each.text) for each in findings]


def bad(findings: Iterable[Finding]) -> list[Finding]:
    """Warnings and problems; each says what to do."""
    found = [each for each in findings if each.level != "ok"]
    assert all(each.advice for each in found)
    return found
