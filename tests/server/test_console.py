"""The console of a real server: where it is, what it needs, what it leaves alone."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from tests.parts.ports import free_port
from tests.parts.server import CableServer, cable_server

APP = "tests.parts.web_app"
PATH = "/_high_voltage_"
NO_HEADERS: Mapping[str, str] = {}
CHANGES = {"X-Catenary-Console": "1"}


def ask(
    port: int,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] = NO_HEADERS,
    body: str = "",
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body or None, dict(headers))
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def location(port: int, path: str) -> tuple[int, str | None]:
    status, headers, _ = ask(port, path)
    return status, headers.get("location")


@pytest.fixture(scope="module")
def public() -> Iterator[CableServer]:
    with cable_server("--public", "--norpc", "--broadcast_adapter=http") as server:
        yield server


def test_in_public_mode_the_root_leads_to_it_and_the_log_names_it(public: CableServer) -> None:
    assert location(public.port, "/") == (303, f"{PATH}/")
    assert location(public.port, PATH) == (303, f"{PATH}/")
    status, _, page = ask(public.port, f"{PATH}/")
    assert status == 200
    assert b"<title>Catenary</title>" in page
    assert f"Serving the console at http://127.0.0.1:{public.port}{PATH}/" in public.output()


def test_the_api_below_it_publishes(public: CableServer) -> None:
    body = json.dumps({"stream": "hello", "data": "1"})
    path = f"{PATH}/api/publish"
    assert ask(public.port, path, "POST", CHANGES, body)[0] in (200, 201, 202)
    assert ask(public.port, path, "POST", body=body)[0] == 403
    foreign = {**CHANGES, "Origin": "https://evil.example"}
    assert ask(public.port, path, "POST", foreign, body)[0] == 403


def test_the_rest_api_is_served_below_the_path_of_the_console(public: CableServer) -> None:
    document = json.loads(ask(public.port, f"{PATH}/api/openapi.json")[2])
    assert document["servers"] == [{"url": f"{PATH}/api"}]
    status, _, answer = ask(public.port, f"{PATH}/api/connections/a%2Fsubscriptions")
    assert (status, json.loads(answer)) == (404, {"error": "no such connection"})
    status, _, answer = ask(public.port, f"{PATH}/api/presence/a%0Ab/users")
    assert status != 404, "the name of a stream may have a line feed"


def test_what_it_shows_of_this_server(public: CableServer) -> None:
    config = json.loads(ask(public.port, f"{PATH}/api/config")[2])
    options = {each["name"]: each for group in config["groups"] for each in group["options"]}
    assert options["port"] == options["port"] | {"value": str(public.port), "source": "--port"}
    facts = json.loads(ask(public.port, f"{PATH}/api/playground")[2])
    assert (facts["authentication"], facts["cable_port"]) == ("none", public.port)
    status, _, answer = ask(
        public.port, f"{PATH}/api/playground/sign?identifiers=x", "POST", CHANGES
    )
    assert (status, json.loads(answer)) == (200, {})


def test_with_a_key_at_a_port_of_its_own() -> None:
    port = free_port()
    flags = ("--norpc", "--noauth", "--admin", "--admin_secret=s3cret", f"--admin_port={port}")
    with cable_server(*flags, "--broadcast_adapter=http", "--secret=application") as server:
        assert location(port, "/") == (303, f"{PATH}/")
        assert location(port, f"{PATH}/") == (303, f"{PATH}/login")
        assert ask(port, f"{PATH}/api/config")[0] == 401
        for path in ("/", PATH, f"{PATH}/login"):
            assert ask(server.port, path)[0] == 404
        wrong = {**CHANGES, "Authorization": "Bearer guess"}
        assert ask(port, f"{PATH}/login", "POST", wrong)[0] == 401
        right = {**CHANGES, "Authorization": "Bearer s3cret"}
        status, headers, _ = ask(port, f"{PATH}/login", "POST", right)
        assert status == 204
        session = {"Cookie": headers["set-cookie"].partition(";")[0]}
        status, _, config = ask(port, f"{PATH}/api/config", headers=session)
        assert status == 200
        for secret in ("s3cret", "guess"):
            assert secret not in config.decode()
            assert secret not in server.output()
        bad = f"{PATH}/api/playground/sign?identifiers=x"
        assert ask(port, bad, "POST", {**CHANGES, **session})[0] == 422
        (line,) = [each for each in server.output().splitlines() if "wrong key" in each]
        assert "remote=127.0.0.1" in line
        assert f"path={PATH}/login" in line


def test_without_a_key_it_is_refused_and_by_default_it_is_off() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "catenary", "--admin", "--norpc"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert "admin: expected a key for the console (admin_secret)" in ended.stderr
    flags = ("--noauth", "--norpc", "--broadcast_adapter=http")
    with cable_server(*flags) as server:
        assert ask(server.port, f"{PATH}/")[0] == 404
        assert ask(server.port, "/")[0] == 404


def test_a_hosted_application_keeps_its_root() -> None:
    flags = ("--public", "--norpc", "--broadcast_adapter=http", f"--asgi={APP}:plain")
    with cable_server(*flags) as server:
        assert location(server.port, "/")[1] != f"{PATH}/"
        assert ask(server.port, f"{PATH}/")[0] == 200


def test_a_session_is_valid_at_every_worker() -> None:
    flags = ("--norpc", "--noauth", "--admin", "--admin_secret=s3cret", "--workers=2")
    with cable_server(*flags, "--broadcast_adapter=http") as server:
        right = {**CHANGES, "Authorization": "Bearer s3cret"}
        _, headers, _ = ask(server.port, f"{PATH}/login", "POST", right)
        session = {"Cookie": headers["set-cookie"].partition(";")[0]}
        shown: set[int] = set()
        while len(shown) < 2:
            status, _, nodes = ask(server.port, f"{PATH}/api/nodes", headers=session)
            assert status == 200
            shown |= {each["worker"] for each in json.loads(nodes)["nodes"] if each["self"]}
        assert {each["worker"] for each in json.loads(nodes)["nodes"]} == {1, 2}
