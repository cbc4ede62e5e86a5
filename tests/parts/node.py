"""JavaScript clients on Node, each a process of its own that a test talks to in JSON lines.

Needs Node 20 or newer and the packages of tests/clients/package-lock.json; ``.ci/parts`` brings
both.
"""

import filecmp
import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.parts.missing import missing

CLIENTS = Path(__file__).parents[1] / "clients"
PACKAGES = CLIENTS / "node_modules"
OLDEST_NODE = 20

Event = dict[str, Any]


@cache
def require_node() -> str:
    """The path of a Node that is new enough. Skips or fails the test where there is none."""
    node = shutil.which("node")
    if node is None:
        missing("Node", f"install Node {OLDEST_NODE} or newer")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    major = re.match(r"v(\d+)\.", version)
    if major is None or int(major[1]) < OLDEST_NODE:
        missing("Node", f"expected version {OLDEST_NODE} or newer, got {version.strip()}")
    return node


@cache
def require_packages() -> Path:
    """The installed node_modules. Skips or fails the test where they are not what the lock says."""
    # .ci/parts leaves the lock it installed from beside what it installed.
    installed = PACKAGES / ".installed-lock.json"
    wanted = CLIENTS / "package-lock.json"
    if not installed.exists() or not filecmp.cmp(wanted, installed, shallow=False):
        missing("tests/clients/node_modules", "run .ci/parts, or npm ci in tests/clients")
    return PACKAGES


class NodeClient:
    """A running driver of tests/clients: :meth:`do` sends it commands, it reports events.

    Events are kept in order. Each wait continues after the event of the last one, so that an event ends
    one wait only.
    """

    def __init__(self, driver: str, options: dict[str, object]) -> None:
        require_packages()
        self._events: list[Event] = []
        self._seen = 0
        self._told = threading.Condition()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self._process = subprocess.Popen(
            [require_node(), driver, json.dumps(options)],
            cwd=CLIENTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def do(self, command: str, **arguments: object) -> None:
        """Sends one command; its results are reported as events."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self._process.stdin.flush()

    def wait_for(self, event: str, timeout_s: float = 30, **fields: object) -> Event:
        """The next event of this name with these fields; events before it are passed over.

        Raises TimeoutError with all events so far.
        """
        wanted = {"event": event, **fields}
        return self._wait(lambda told: contains(told, wanted), str(wanted), timeout_s)

    def wait_for_frame(self, timeout_s: float = 30, **fields: object) -> Event:
        """The next message from the server with these fields at its top level."""

        def matches(told: Event) -> bool:
            return told["event"] == "frame" and contains(told["message"], fields)

        frame = self._wait(matches, f"a frame with {fields}", timeout_s)
        message: Event = frame["message"]
        return message

    def frames(self) -> list[Event]:
        """Every message from the server so far, waited for or not."""
        return [told["message"] for told in self.told("frame")]

    def told(self, event: str) -> list[Event]:
        """Every event of this name so far, waited for or not."""
        with self._told:
            return [told for told in self._events if told["event"] == event]

    def stop(self) -> None:
        """Ends the driver by closing its standard input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._complaints.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._told:
                self._events.append(json.loads(line))
                self._told.notify_all()

    def _wait(self, matches: Callable[[Event], bool], wanted: str, timeout_s: float) -> Event:
        deadline = time.monotonic() + timeout_s
        with self._told:
            while True:
                while self._seen < len(self._events):
                    told = self._events[self._seen]
                    self._seen += 1
                    if matches(told):
                        return told
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._told.wait(left_s):
                    raise TimeoutError(self._account(wanted, timeout_s))

    def _account(self, wanted: str, timeout_s: float) -> str:
        self._complaints.seek(0)
        told = "\n".join(map(str, self._events))
        complaints = self._complaints.read().decode()
        return f"expected {wanted} within {timeout_s} s, got:\n{told}\n{complaints}"


def contains(message: Event, fields: Event) -> bool:
    """Whether a message has these fields, among others."""
    return all(name in message and message[name] == value for name, value in fields.items())


def speaking(protocol: str) -> dict[str, object]:
    """The options of a driver that make it speak another subprotocol; empty: its own."""
    if not protocol:
        return {}
    return {"protocol": protocol, "schema": str(files("catenary.protocols") / "actioncable.proto")}


@contextmanager
def node_client(
    driver: str, url: str, ping_interval_s: float = 3, protocol: str = ""
) -> Iterator[NodeClient]:
    """A client for the length of a with block; it expects the server's pings at this interval.

    ``protocol`` is a subprotocol other than the driver's own.
    """
    options: dict[str, object] = {"url": url, "pingIntervalS": ping_interval_s}
    client = NodeClient(driver, {**options, **speaking(protocol)})
    try:
        yield client
    finally:
        client.stop()
