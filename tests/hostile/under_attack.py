"""A server under attack: its figures, and what the crowd notices of an attack."""

import asyncio
import json
import re
import sys
import urllib.request
from collections import Counter
from pathlib import Path

from tests.hostile.bystanders import Crowd
from tests.parts.server import CableServer

FLOOR_S = 0.05
"""What this machine, on which others work, takes now and then without an attack."""

ATTEMPTS = 2
"""A machine that is disturbed by others once is not disturbed again at the same moment."""

CALM_S = 0.6


class Hostile:
    """A server with its figures."""

    def __init__(self, server: CableServer, metrics_port: int) -> None:
        self.server = server
        self._url = f"http://127.0.0.1:{metrics_port}/metrics"

    def figure(self, name: str) -> int:
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            found = re.search(rf"^anycable_go_{name} (\d+)$", answer.read().decode(), re.MULTILINE)
        assert found is not None, name
        return int(found[1])


async def attacked(
    hostile: Hostile, attack: str, module: str = "tests.hostile.attacks"
) -> Counter[str]:
    """What an attack saw; what the crowd noticed of it is judged here."""
    crowd = Crowd(hostile.server)
    async with crowd.listening():
        for _ in range(ATTEMPTS):
            calm_s = await crowd.p99_s(CALM_S)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                attack,
                str(hostile.server.port),
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            done = asyncio.ensure_future(process.wait())
            attacked_s = await crowd.p99_s(done)
            assert await done == 0
            assert process.stdout is not None
            seen = Counter(json.loads(await process.stdout.read()))
            print(f"{attack}: p99 {calm_s * 1000:.1f} → {attacked_s * 1000:.1f} ms, {dict(seen)}")
            if attacked_s <= max(2 * calm_s, FLOOR_S):
                return seen
    raise AssertionError("others have noticed the attack, each time")
