"""The README, typed from the first command to the last on a machine where nothing is set."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.bare_venv import link_packages
from tests.parts.machine import ROOT, Machine, blocks, machine

(
    RUN,
    CURL,
    TERMINAL,
    INSTALL,
    CHAT,
    WORKERS,
    REDIS,
    BENCH,
    DEVELOPMENT,
) = blocks("README.md")
(APPLICATION,) = blocks("README.md", "python")

# The installation is complete already; pip would download from an index.
MAKE_RUN = RUN.replace("make run", "make --old-file=.venv/run.done run")


@pytest.fixture
def clone() -> Iterator[Machine]:
    with machine(ROOT) as fresh:
        yield fresh


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as fresh:
        yield fresh


def test_try_it(clone: Machine) -> None:
    """The page itself is tested in a browser: tests/browser/test_pages.py."""
    subscribe, *_ = TERMINAL.splitlines()
    with clone.terminal(MAKE_RUN, 8080, 8090) as server:
        server.wait_for("anyone may connect, subscribe and publish")
        server.wait_for("Serving the console at http://localhost:8080/_high_voltage_/")
        with clone.terminal(subscribe) as listener:
            listener.wait_for("subscribed to")
            clone.type(CURL)
            listener.wait_for('{"text":"Hello"}')


def test_in_a_terminal(clone: Machine) -> None:
    subscribe, publish, bench = TERMINAL.splitlines()
    with clone.terminal(MAKE_RUN, 8080, 8090), clone.terminal(subscribe) as listener:
        listener.wait_for("subscribed to")
        clone.type(publish)
        listener.wait_for('{"message":{"text": "Hello"}}')
        assert "0 lost, 0 twice" in clone.type(bench.replace("1000", "100"))


def test_an_installation_for_another_project(elsewhere: Machine) -> None:
    """In a venv in which pip finds no more than the packages that the extra names."""
    create, install, start = INSTALL.replace("/path/to/catenary", str(ROOT)).splitlines()
    elsewhere.type(create)
    link_packages(
        elsewhere.directory / ".venv", "catenary[server]", "hatchling", without="catenary"
    )
    elsewhere.environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    activate = ". .venv/bin/activate"
    elsewhere.type(f"{activate}; {install}", timeout_s=100)
    with (
        elsewhere.terminal("redis-server --save ''", 6379),
        elsewhere.terminal(f"{activate}; {start}", 8080) as server,
    ):
        server.wait_for("Redis")
        ready = "curl --fail --silent --show-error --retry 9 localhost:8080/ready"
        assert elsewhere.type(ready).endswith("OK\n")
        assert "optional library" not in server.output()


def test_an_application_over_grpc(clone: Machine) -> None:
    """The page itself is tested in a browser: tests/browser/test_pages.py."""
    install, rpc, server, page = CHAT.splitlines()
    assert install.startswith("npm install --no-save @rails/actioncable@")
    listen = "../../.venv/bin/catenary subscribe ChatChannel room=lobby"
    # The answer of the action and the broadcast, in any order.
    perform = "--perform speak text=hello --count=2 --timeout=20s"
    url = "--url='ws://localhost:8080/cable?name=Ann'"
    clone.directory = ROOT / "examples" / "chat"
    with (
        clone.terminal("redis-server --save ''", 6379),
        clone.terminal(rpc, 50051),
        clone.terminal(server, 8080),
        clone.terminal(page, 3000),
    ):
        assert "<!doctype html>" in clone.type("curl --fail 'http://localhost:3000/?name=Ann'")
        assert '"text":"hello"' in clone.type(f"{listen} {url} {perform}")


def test_more_than_one_core(clone: Machine) -> None:
    with clone.terminal(WORKERS, 8080, 8090) as server:
        server.wait_for("Worker 2 serves")
        clone.type(CURL)
        assert '"data":"{\\"text\\":\\"Hello\\"}"' in clone.type(".venv/bin/catenary history hello")


def test_more_than_one_machine(clone: Machine) -> None:
    with (
        clone.terminal("redis-server --save ''", 6379),
        clone.terminal(REDIS, 8080),
    ):
        ready = "curl --fail --silent --show-error --retry 9 localhost:8080/ready"
        assert clone.type(ready).endswith("OK\n")


def test_an_application_in_python_however_it_is_served(elsewhere: Machine) -> None:
    (elsewhere.directory / "chat.py").write_text(APPLICATION)
    table = re.findall(
        r"^\| `(catenary (?:rpc )?chat:cable.*?)`", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(table) == 4
    (elsewhere.directory / "web.py").write_text(
        "from starlette.applications import Starlette\n"
        "from starlette.responses import Response\n"
        "from starlette.routing import Route\n\n"
        "from chat import ChatChannel\n\n\n"
        "async def news(request):\n"
        '    await ChatChannel.broadcast_to("chat", "by a page")\n'
        "    return Response()\n\n\n"
        'app = Starlette(routes=[Route("/news", news)])\n'
    )
    for command in table:
        if command.startswith("catenary rpc"):
            continue
        with elsewhere.terminal(command, 8080):
            speak(elsewhere)
            if "--asgi" in command:
                with elsewhere.terminal(f"{LISTEN} --count=1") as listener:
                    listener.wait_for("subscribed to")
                    elsewhere.type("curl --fail --silent --show-error localhost:8080/news")
                    listener.wait_for('"by a page"')
    (rpc,) = (each for each in table if each.startswith("catenary rpc"))
    with (
        elsewhere.terminal(rpc, 50051),
        elsewhere.terminal("catenary --broadcast_adapter=http", 8080, 8090),
    ):
        speak(elsewhere)


LISTEN = "catenary subscribe ChatChannel --url='ws://localhost:8080/cable?name=ann'"


def speak(there: Machine) -> None:
    """A client receives its own words, which the application publishes."""
    printed = there.type(f"{LISTEN} --perform speak text=hello --count=1 --timeout=20s")
    assert '"message":{"text":"hello","name":"ann"}' in printed


def test_the_other_commands_are_of_these_kinds() -> None:
    """They download packages, measure for minutes, or run all tests."""
    assert "make bench" in BENCH
    assert [line.split()[0] for line in DEVELOPMENT.splitlines()] == ["make"] * 3


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", RUN + BENCH + DEVELOPMENT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_to_files() -> None:
    """Also the links of docs/ and of the other pages at the root, with their headings."""
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")):
        if "node_modules" in page.parts:
            continue
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {link}"
            if heading:
                titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
                slugs = [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in titles]
                assert heading in slugs, f"{page.name}: {link}"
