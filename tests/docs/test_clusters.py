"""The commands of docs/nats.md and docs/migration-from-anycable.md are ones that the server takes.

The configurations of docs/nats.md run in tests/adapters/nats/test_jetstream.py, the table of the other page in
tests/cluster/test_migration.py.
"""

import re
import shlex

import pytest

from tests.config.sources import options
from tests.parts.guide import ROOT


def commands(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    shells = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for shell in shells for line in shell.splitlines()]
    return [line for line in lines if line.startswith("catenary")]


@pytest.mark.parametrize("command", [*commands("nats.md"), *commands("migration-from-anycable.md")])
def test_a_command_is_accepted(command: str) -> None:
    words = [each for each in shlex.split(command, comments=True)[1:] if each != "doctor"]
    found = options(*words)
    assert {found.pubsub.adapter, found.broker.adapter} & {"nats", "redis"}
    assert found.nats.servers
