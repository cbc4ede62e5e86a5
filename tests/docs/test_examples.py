"""Runs each example by the commands of its README, at its ports, without other settings.

Their pages are tested in tests/browser.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from tests.parts.machine import ROOT, Machine, Terminal, blocks, machine
from tests.parts.node import require_packages

PORTS = {
    "redis-server": (6379,),
    "catenary rpc": (50051,),
    "catenary": (8080,),
    "python -m http.server": (3000,),
    "python manage.py catenary": (8080,),
    "flask": (5000,),
}
INSTALLS = ("pip install ", "npm install ")
GET = "curl --fail --silent --show-error"


class Example:
    """An example whose processes run, started by the commands of its README."""

    def __init__(self, name: str, there: Machine) -> None:
        installs, starts, *self.more = blocks(f"examples/{name}/README.md")
        lines = installs.splitlines()
        assert lines[0] == "python3 -m venv .venv && . .venv/bin/activate"
        # The other lines set up the project.
        there.type("\n".join(each for each in lines[1:] if not each.startswith(INSTALLS)))
        exports = [each for each in starts.splitlines() if each.startswith("export ")]
        self.starts = [each for each in starts.splitlines() if each not in exports]
        self.there = there
        self.terminals: list[Terminal] = []
        self._exports = "\n".join(exports)

    def type(self, block: str) -> str:
        """Runs a block in another terminal."""
        return self.there.type(f"{self._exports}\n{block}")

    @contextmanager
    def run(self) -> Iterator[None]:
        """Each of its commands runs in a terminal of its own."""
        with ExitStack() as terminals:
            opened = self.terminals
            for command in self.starts:
                ports = next((PORTS[each] for each in PORTS if command.startswith(each)), ())
                block = f"{self._exports}\n{command}"
                opened.append(terminals.enter_context(self.there.terminal(block, *ports)))
            yield
            for each in opened:
                assert "Traceback" not in each.output(), each.output()


@contextmanager
def running(name: str, directory: Path) -> Iterator[Example]:
    copied = directory / name
    ignored = shutil.ignore_patterns("node_modules", "__pycache__", ".*", "*.sqlite3")
    shutil.copytree(ROOT / "examples" / name, copied, ignore=ignored)
    (copied / "node_modules").symlink_to(require_packages())
    with machine(copied) as there:
        example = Example(name, there)
        with example.run():
            yield example


def test_the_chat_behind_rpc(tmp_path: Path) -> None:
    with running("chat", tmp_path) as example:
        assert "<!doctype html>" in example.type(f"{GET} 'http://localhost:3000/?name=Ann'")
        listen = (
            "catenary subscribe ChatChannel room=lobby --url='ws://localhost:8080/cable?name=Ann'"
        )
        (from_redis,) = example.more
        with example.there.terminal(listen) as ann:
            ann.wait_for("subscribed to")
            example.type(from_redis)
            ann.wait_for('{"user":"redis-cli","text":"Hello"}')


def test_the_dashboard(tmp_path: Path) -> None:
    with running("dashboard", tmp_path) as example:
        assert '"eel"' in example.type(f"{GET} http://localhost:8080/streams")
        (from_a_shell,) = example.more
        newest = example.type(from_a_shell).splitlines()
        assert len(newest) <= 3
        assert any("99" in each for each in newest)


def test_the_chat_of_django(tmp_path: Path) -> None:
    with running("django_chat", tmp_path) as example:
        assert "Who are you?" in example.type(f"{GET} --location http://localhost:8080/")
        (delete,) = example.more
        make = (
            "from django.contrib.auth.models import User; from chat.models import Message, Room;"
            "room = Room.objects.first() or Room.objects.create(name='den');"
            "Message.objects.create(room=room, author=User.objects.create(username='ann'), text='a')"
        )
        for command in (f'python manage.py shell -c "{make}"', delete):
            assert "Turbo Stream was not published" not in example.type(command)


def test_the_chat_of_fastapi(tmp_path: Path) -> None:
    with running("fastapi_chat", tmp_path) as example:
        (from_curl,) = example.more
        listen = "catenary subscribe RoomChannel room=lobby --url=ws://localhost:8080/cable"
        name = """--request PUT --header 'Content-Type: application/json' --data '{"name":"Ann"}'"""
        sign_in = f"{GET} --cookie-jar - {name} http://localhost:8080/session"
        cookie = re.findall(r"session\t(\S+)", example.type(sign_in))[0]
        with example.there.terminal(f"{listen} --header='Cookie: session={cookie}'") as ann:
            ann.wait_for("subscribed to")
            printed = example.type(from_curl.replace("curl ", f"{GET} "))
            assert printed.startswith('["Ann"]')
            ann.wait_for("Tea is ready")


def test_hotwire(tmp_path: Path) -> None:
    with running("hotwire", tmp_path) as example:
        page = example.type(f"{GET} http://localhost:5000/")
        stream = page.partition('signed-stream-name="')[2].partition('"')[0]
        listen = (
            "catenary subscribe --url=ws://localhost:8080/cable"
            f" Turbo::StreamsChannel signed_stream_name={stream}"
        )
        with example.there.terminal(listen) as client:
            client.wait_for("subscribed to")
            example.type(f"{GET} --data text=Milk http://localhost:5000/items")
            client.wait_for("Milk")


def test_tokens(tmp_path: Path) -> None:
    with running("tokens", tmp_path) as example:
        assert "<!doctype html>" in example.type(f"{GET} http://localhost:8080/")
        ask = (
            f"catenary subscribe AnswerChannel id={uuid4()} --url=ws://localhost:8080/cable"
            " --perform ask question=why --count=3 --timeout=20s"
        )
        assert '"message"' in example.type(ask)


def test_charging_stations(tmp_path: Path) -> None:
    with running("charging_stations", tmp_path) as example:
        central, station = example.terminals
        station.wait_for("charged: AB12")
        central.wait_for("cs-1: stopped 1 at 1000")
        (remote_start,) = example.more
        example.type(remote_start)
        station.wait_for("charged: CD34")
        central.wait_for("cs-1: answered 42 Accepted")
        central.wait_for("cs-1: stopped 2 at")
        wrong = example.starts[1].replace("first", "second")
        assert "boot: Rejected" in example.type(wrong)
        assert "closed: 1008" in example.type(wrong)


def test_a_chat_over_graphql(tmp_path: Path) -> None:
    with running("graphql_chat", tmp_path) as chat:
        listen, speak = chat.more[0].splitlines()
        with chat.there.terminal(listen) as listener:
            while "{ say: 1 }" not in chat.type(speak):
                pass
            listener.wait_for("{ name: 'Ben', text: 'Hello' }")
