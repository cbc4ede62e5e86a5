"""How properties are tested: any machine may be slow, and CI always tries the same examples. The order of files, Ctrl-C,
and what each process of the tests need not do."""

import gc
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

settings.register_profile(
    "catenary", max_examples=100, deadline=None, derandomize="CI" in os.environ
)
settings.load_profile("catenary")

# A shell lets what it starts in the background ignore Ctrl-C, and every program that tests start would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# As the command line does: tests start children of this process while it makes gRPC calls.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# jsonschema, which comes with ocpp, would compile grammars of IRIs for seconds. No test has a schema with that format.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

LONG: Final = (
    "faults/test_faults.py",
    "test_churn.py",
    "test_memory.py",
    "bench/test_bench.py",
    "codeworkers/test_generations.py",
    "process/test_rolling.py",
    "api/test_broadcast.py",
    "cluster/test_remote_disconnect.py",
    "cluster/test_versions.py",
    "adapters/redis/test_cluster.py",
    "contracts/test_history.py",
    "deploy/test_image.py",
    "release/test_release.py",
    "server/test_hosted_application.py",
    "cluster/test_cluster.py",
    "growth/test_node.py",
    "clients/test_clients.py",
)
"""Files that take half a minute and more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files begin first: one that began last would let a single process run for a minute, and the others wait."""
    turns = {Path(__file__).parent / each: turn for turn, each in enumerate(LONG)}
    items.sort(key=lambda item: turns.get(item.path, len(turns)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Half a million objects that live as long as the tests: no collection of garbage need look at them, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
