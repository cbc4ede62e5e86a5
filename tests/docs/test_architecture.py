"""ARCHITECTURE.md names rooms and files that exist."""

import re
from pathlib import Path

from tests.test_floors import ROOMS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
BASES = (ROOT, ROOT / "src" / "catenary", ROOT / "src" / "catenary" / "server")
# Named after their room in the same sentence.
LOCAL = {"link.py", "messages.py", "jwks.py"}


def test_named_files_exist() -> None:
    named = {each for each in re.findall(r"`([\w./{},]+\.py)[:`]", TEXT) if "{" not in each}
    assert len(named) > 40
    missing = [each for each in named if not any((base / each).is_file() for base in BASES)]
    assert sorted(set(missing) - LOCAL) == []


def test_every_room_has_a_row() -> None:
    rows = set(re.findall(r"^\| `(\w+)/` \|", TEXT, re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "src" / "catenary").glob("*/__init__.py")}
    assert rows == rooms
    assert rows <= ROOMS.keys()
