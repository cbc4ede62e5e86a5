"""``manage.py catenary`` and ``catenary`` as programs that serve the project."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User

from catenary.auth.signatures import Signatures
from catenary.channels.django.configuration import secret
from catenary.errors import install_command
from tests.channels.django.project.models import Room
from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.server import OURS, CableServer, cable_server

MANAGE = (sys.executable, "-W", "error", "-m", "django", "catenary")
ROOM = identifier("RoomChannel", id=1)
TURBO = "Turbo::StreamsChannel"


@pytest.fixture(autouse=True)
def _content() -> None:
    Room.objects.create(pk=1, name="den")
    User.objects.create_user("ann")


def get(url: str) -> str:
    """The cookie of a page."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        cookie: str = answer.headers.get("set-cookie", "")
        return cookie.partition(";")[0]


def users_are_known(server: CableServer, pages: str) -> None:
    with CableClient(server.cable_url) as stranger:
        assert stranger.receive()["reason"] == "unauthorized"
    with CableClient(server.cable_url, headers={"Cookie": get(f"{pages}/enter/ann")}) as ann:
        ann.receive_welcome()
        assert ann.subscribe(ROOM) == confirmed(ROOM)
        ann.perform(ROOM, "session")
        assert ann.receive()["message"] == "of ann"


def pages_follow(server: CableServer, pages: str) -> None:
    with CableClient(server.cable_url, headers={"Cookie": get(f"{pages}/enter/ann")}) as ann:
        ann.receive_welcome()
        signed = Signatures(secret()).signed("Room/1:messages")
        messages = identifier(TURBO, signed_stream_name=signed)
        assert ann.subscribe(messages) == confirmed(messages)
        get(f"{pages}/say/hello")
        assert "hello" in ann.receive()["message"]
        # From a coroutine of a channel, too
        ann.subscribe(ROOM)
        ann.perform(ROOM, "say", text="from a channel")
        assert "from a channel" in ann.receive()["message"]


def test_cable_and_pages_at_one_port(environment: dict[str, str]) -> None:
    with cable_server("--asgi", command=MANAGE, env=environment) as server:
        pages = f"http://127.0.0.1:{server.port}"
        users_are_known(server, pages)
        pages_follow(server, pages)
        assert server.stop() == 0
        output = server.output()
    assert "Traceback" not in output
    assert secret() not in output


def test_catenary_serves_the_cable_of_a_project(environment: dict[str, str]) -> None:
    command = (*OURS, "tests.channels.django.project.cable:cable")
    flags = ("--asgi=catenary.channels.django.asgi:application", "--broadcast_adapter=http")
    with cable_server(*flags, command=command, env=environment) as server:
        users_are_known(server, f"http://127.0.0.1:{server.port}")


def test_behind_rpc_with_pages_elsewhere(environment: dict[str, str]) -> None:
    port = free_port()
    with (
        process(port, *MANAGE[3:], "rpc", f"--rpc_host=127.0.0.1:{port}", env=environment),
        cable_server(
            "--asgi=catenary.channels.django.asgi:application",
            f"--rpc_host=127.0.0.1:{port}",
            "--broadcast_adapter=http",
            env=environment,
        ) as server,
    ):
        users_are_known(server, f"http://127.0.0.1:{server.port}")


@contextmanager
def process(port: int, *arguments: str, env: dict[str, str]) -> Iterator[None]:
    started = subprocess.Popen([sys.executable, *arguments], env={**os.environ, **env})
    try:
        wait_until_listening(port)
        yield
    finally:
        started.terminate()
        started.wait(10)


def last_line(*arguments: str, env: dict[str, str]) -> str:
    """The last line of a command that fails."""
    done = subprocess.run(
        [*arguments], capture_output=True, text=True, timeout=30, env={**os.environ, **env}
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_flags_override_the_settings(environment: dict[str, str]) -> None:
    def printed(*flags: str, **variables: str) -> str:
        done = subprocess.run(
            [*MANAGE, "--verbosity", "1", "--print-config", *flags],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, **environment, **variables},
        )
        return done.stdout

    assert 'adapter = "memory"' in printed()
    assert "port = 1234" in printed("--port", "1234")
    assert 'adapter = "memory"' not in printed("--broker", "none")
    assert 'adapter = "memory"' not in printed(ANYCABLE_BROKER="none")


def test_a_missing_setting_is_reported_in_one_line(environment: dict[str, str]) -> None:
    nowhere = {**environment, "DJANGO_SETTINGS_MODULE": "no.where"}
    ours = last_line(*OURS, "tests.channels.django.project.cable:cable", env=nowhere)
    assert ours == "catenary: DJANGO_SETTINGS_MODULE: No module named 'no'"
    no_cable = (
        "from django.conf import settings; from django.core.management import call_command;"
        "settings.configure(INSTALLED_APPS=['catenary.channels.django'], CATENARY={});"
        "import django; django.setup(); call_command('catenary')"
    )
    assert "expected CATENARY" in last_line(sys.executable, "-c", no_cable, env={})
    without = "import sys; sys.modules['django'] = None; import catenary.channels.django"
    assert install_command("django") in last_line(sys.executable, "-c", without, env={})
