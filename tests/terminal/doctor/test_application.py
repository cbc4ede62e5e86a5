"""The application: a cable that is imported, or one behind gRPC or HTTP, which no check calls."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from catenary.auth.keys import RPC_PHRASE, derived_key
from catenary.terminal.doctor.application import check_application, check_cable
from tests.parts.application import TestApplication
from tests.parts.grpc_app import grpc_server
from tests.parts.http_app import HttpServer, http_server
from tests.parts.ports import free_port
from tests.terminal.doctor import bad, reached, shown


def test_none_is_asked() -> None:
    assert shown(reached(check_application, "--norpc")) == [("ok", "no application is called")]


def test_grpc() -> None:
    application = TestApplication()
    with grpc_server(application) as server:
        (finding,) = reached(check_application, f"--rpc_host={server.address}")
        assert finding.level == "ok"
        assert finding.text.endswith("answers over gRPC (it has no health service)")
        assert application.calls == []
    (finding,) = bad(reached(check_application, f"--rpc_host={server.address}"))
    assert finding.level == "problem"
    assert f"no connection to {server.address}" in finding.text


@pytest.mark.parametrize(
    ("answer", "level", "text"),
    [
        (b"\x08\x01", "ok", "answers over gRPC"),
        (b"\x08\x02", "problem", "says that it is NOT_SERVING"),
        (b"", "problem", "says that it is UNKNOWN"),
    ],
)
def test_the_health_service_of_grpc(answer: bytes, level: str, text: str) -> None:
    check = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        (finding,) = reached(check_application, f"--rpc_host=127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
    assert finding.level == level
    assert finding.text.endswith(text)


def test_http() -> None:
    application = TestApplication()
    key = derived_key("s3cret", RPC_PHRASE)
    with http_server(application, key=key) as server:
        for flags, expected in (
            ((server.url, "s3cret"), ("ok", "answers over HTTP")),
            ((server.url, "another"), ("problem", "refuses the key (HTTP 401)")),
            ((server.url.removesuffix("/_anycable"), "s3cret"), ("problem", "(HTTP 404)")),
        ):
            url, secret = flags
            (finding,) = reached(check_application, f"--rpc_host={url}", f"--secret={secret}")
            assert (finding.level, expected[1] in finding.text) == (expected[0], True), finding
        assert application.calls == []
    away = HttpServer(application, port=free_port())
    (finding,) = bad(reached(check_application, f"--rpc_host={away.url}?token=t0ken"))
    assert f"{away.url} can't be reached: " in finding.text


def test_a_cable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doctored.py").write_text(
        "from catenary import Cable\ncable = Cable(channels=[])\n"
    )
    (tmp_path / "ill.py").write_text("import nothing_of_the_kind\n")
    assert shown(check_cable("doctored:cable")) == [("ok", "doctored:cable is a cable")]
    for where in ("doctored:other", "ill:cable", "absent:cable"):
        (finding,) = bad(check_cable(where))
        assert finding.level == "problem"
