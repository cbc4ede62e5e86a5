"""Draws the picture of docs/console.md: the overview of a cluster with traffic. ``make console-picture``."""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import Request, urlopen

from tests.browser.console import PATH
from tests.parts.chromium import headless_chromium
from tests.parts.cluster import Cluster, redis_cluster
from tests.parts.raw_socket import RawSocket, command

PICTURE = Path(__file__).parents[2] / "docs" / "figures" / "console.png"
SECONDS = 70
STREAM = json.dumps({"channel": "$pubsub", "stream_name": "news"})


def draw() -> None:
    """Takes about 80 seconds: the plots show the last minute."""
    with (
        redis_cluster(2, "--ping_interval=60") as cluster,
        ExitStack() as stack,
        headless_chromium() as browser,
    ):
        page = browser.new_page(
            color_scheme="light", viewport={"width": 1180, "height": 640}, reduced_motion="reduce"
        )
        page.goto(f"http://localhost:{cluster.nodes[0].port}{PATH}")
        end = time.monotonic() + SECONDS
        number = 0
        while time.monotonic() < end:
            number += 1
            if number % 10 == 0:
                _connect(cluster, stack, number)
            for _ in range(1 + number % 7):
                _publish(cluster, number)
            page.wait_for_timeout(100)
        page.screenshot(path=PICTURE)


def _connect(cluster: Cluster, stack: ExitStack, number: int) -> None:
    client = stack.enter_context(RawSocket(cluster.nodes[number // 10 % 2].port)).open()
    client.send(command("subscribe", STREAM))


def _publish(cluster: Cluster, number: int) -> None:
    body = json.dumps({"stream": "news", "data": str(number)}).encode()
    urlopen(Request(cluster.nodes[number % 2].broadcast_url, body), timeout=10).close()


if __name__ == "__main__":
    draw()
