"""The guide: every block of code in it is a file, and all of them work together."""

from pathlib import Path

import pytest

from tests.parts import guide
from tests.parts.guide import run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files of the guide."""
    return guide.write("channels", tmp_path_factory.mktemp("guide"))


def test_every_file_of_the_guide_can_be_imported(written: Path) -> None:
    names = [path.stem for path in written.glob("*.py")]
    assert {"chat", "publish", "serve", "test_chat"} <= set(names)
    run(written, "-c", "import " + ", ".join(names))


def test_every_channel_of_the_guide_can_be_served(written: Path) -> None:
    code = (
        "from catenary import Cable; from params import *; from state import *; from life import *;"
        "from clock import *; Cable(connection=Guarded, channels=[SearchChannel, DraftChannel,"
        "DocumentChannel, ClockChannel])"
    )
    run(written, "-c", code)


def test_the_publications_of_the_guide_are_accepted(written: Path) -> None:
    code = """
import asyncio, json
import publish
from chat import cable

class Recorder:
    published = []
    def publish(self, raw):
        self.published.append(raw)

async def main():
    await cable.application.start(Recorder())
    await asyncio.to_thread(publish.from_a_thread)
    await publish.from_a_coroutine()
    await cable.stop(1)

asyncio.run(main())
assert len(Recorder.published) == 5, Recorder.published
assert len(json.loads(Recorder.published[3])) == 2
"""
    run(written, "-c", code)


def test_the_guide_s_server_serves(written: Path) -> None:
    code = """
import asyncio, serve_at_any_port

async def main():
    stop = asyncio.Event()
    serving = asyncio.create_task(serve_at_any_port.main(stop))
    stop.set()
    await serving

asyncio.run(main())
"""
    served = (written / "serve.py").read_text().replace(":50051", ":0")
    (written / "serve_at_any_port.py").write_text(served)
    run(written, "-c", code)


def test_the_guide_s_tests_pass(written: Path) -> None:
    run(written, "-m", "pytest", "-q", "-p", "no:cacheprovider")
