"""Compose, Fly, Heroku, Kamal and the Procfile: their variables are options, and the server stops within their time."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from catenary import __version__
from tests.deploy.variables import configured, of_image, stop_s
from tests.parts.image import ROOT, stages
from tests.parts.machine import machine

DEPLOY = ROOT / "deploy"


def filled(variables: dict[str, Any]) -> dict[str, str]:
    """With the defaults of ``${NAME:-default}``, and a secret for what has none."""
    text = {name: str(value) for name, value in variables.items()}
    return {
        name: re.sub(r"\$\{\w+(?::-(.*?)|:\?.*?)?\}", r"\1", each) for name, each in text.items()
    }


def test_compose() -> None:
    path = DEPLOY / "compose.yaml"
    program = Path(sys.executable).with_name("check-jsonschema")
    check = [str(program), "--builtin-schema=vendor.compose-spec", str(path)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    services = yaml.safe_load(path.read_text())["services"]
    ours = services["catenary"]
    options = configured(**of_image(), **filled(ours["environment"]))
    assert options.broker.adapter == options.pubsub.adapter == "redis"
    assert options.server.host == "0.0.0.0"
    (port,) = ours["ports"]
    assert port.rpartition(":")[2] == str(options.server.port)
    assert int(ours["stop_grace_period"].removesuffix("s")) >= stop_s(options)
    assert "ANYCABLE_SECRET:?" in ours["environment"]["ANYCABLE_SECRET"]
    assert (ours["read_only"], ours["cap_drop"]) == (True, ["ALL"])
    assert (path.parent / ours["build"]["context"] / ours["build"]["dockerfile"]).resolve() == (
        DEPLOY / "Dockerfile"
    )
    assert options.redis.url == f"redis://{next(iter(ours['depends_on']))}:6379/0"


def test_fly() -> None:
    fly = tomllib.loads((DEPLOY / "fly.toml").read_text())
    of_machine = {"FLY_APP_NAME": "my-cable", "FLY_ALLOC_ID": "1", "FLY_REGION": "lhr"}
    options = configured(**of_image(), **fly["env"], **of_machine)
    service = fly["http_service"]
    assert options.server.host == "0.0.0.0"
    assert options.enats.enabled
    assert options.rpc.host == "dns:///lhr.my-app.internal:50051"
    assert service["internal_port"] == options.server.port
    assert {each["path"] for each in service["checks"]} == {options.server.ready_path}
    (signal,) = (
        each.text for each in stages(DEPLOY / "Dockerfile")[-1] if each.name == "STOPSIGNAL"
    )
    assert fly["kill_signal"] == signal
    assert int(fly["kill_timeout"].removesuffix("s")) >= stop_s(options)
    assert service["concurrency"]["type"] == "connections"
    assert service["auto_stop_machines"] == "off"


def test_kamal() -> None:
    ours = yaml.safe_load((DEPLOY / "kamal.yml").read_text())["accessories"]["catenary"]
    secrets = dict.fromkeys(ours["env"]["secret"], "s3cret")
    clear = {name: str(value) for name, value in ours["env"]["clear"].items()}
    options = configured(**of_image(), **clear, **secrets)
    proxy = ours["proxy"]
    assert proxy["app_port"] == options.server.port == options.http_broadcast.port
    assert proxy["healthcheck"]["path"] == options.server.ready_path
    assert ours["options"]["stop-timeout"] >= stop_s(options)


def test_heroku(tmp_path: Path) -> None:
    app = json.loads((DEPLOY / "heroku" / "app.json").read_text())
    env = {name: each.get("value", "") for name, each in app["env"].items()}
    env |= {"ANYCABLE_RPC_HOST": "https://my-app.herokuapp.com/_anycable", "ANYCABLE_SECRET": "s"}
    options = configured(**env, PORT="5000", REDIS_URL="rediss://:p@host:6380")
    assert (options.server.host, options.server.port) == ("0.0.0.0", 5000)
    assert options.broker.adapter == "redis"
    assert stop_s(options) <= 30  # as Heroku waits
    requirements = (DEPLOY / "heroku" / "requirements.txt").read_text()
    assert f"./catenary-{__version__}-py3-none-any.whl[server]" in requirements
    version = (DEPLOY / "heroku" / ".python-version").read_text().strip()
    assert f"Programming Language :: Python :: {version}" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", ["Procfile", "heroku/Procfile"])
def test_a_procfile(name: str, tmp_path: Path) -> None:
    """As foreman, Heroku and others run it: by a shell, with PORT."""
    process, _, command = (DEPLOY / name).read_text().strip().partition(": ")
    assert process == "web"
    with machine(tmp_path) as there:
        there.environment |= {
            "PORT": "5000",
            "ANYCABLE_PUBLIC": "true",
            "ANYCABLE_NORPC": "true",
            "ANYCABLE_BROADCAST_ADAPTER": "http",
            **({"ANYCABLE_PRESETS": "heroku"} if "/" in name else {}),
        }
        with there.terminal(command, 5000) as server:
            server.wait_for("ws://0.0.0.0:5000/cable")
