"""The access log of a hosted application: uvicorn's format, and no query."""

import logging
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from catenary.api.access_log import AccessLog
from catenary.logs.fields import fields_of
from tests.parts.heart import in_loop

SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/search",
    "query_string": b"token=hunter2",
    "http_version": "2",
    "client": ("10.0.0.1", 5000),
    "headers": [(b"origin", b"http://page.test"), (b"cookie", b"hunter2")],
}


async def logged(caplog: pytest.LogCaptureFixture, scope: Scope, *sent: Message) -> list[Any]:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for each in sent:
            await send(each)

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        received.append(message)

    with caplog.at_level(logging.INFO, "catenary.access"):
        await AccessLog(app)(scope, receive, send)
    assert received == list(sent)
    return caplog.messages


@in_loop
async def test_a_request_is_one_line_in_uvicorn_s_format(caplog: pytest.LogCaptureFixture) -> None:
    start = {"type": "http.response.start", "status": 201}
    lines = await logged(caplog, SCOPE, start, {"type": "http.response.body"})
    assert lines == ['10.0.0.1:5000 - "POST /search?… HTTP/2" 201']
    values = fields_of(caplog.records[0])
    assert (values["status"], values["remote"], values["origin"]) == (
        201,
        "10.0.0.1",
        "http://page.test",
    )
    assert "hunter2" not in str(values)


@in_loop
async def test_a_path_can_t_forge_the_rest_of_the_line(caplog: pytest.LogCaptureFixture) -> None:
    path = '/a HTTP/1.1" 200 remote=10.6.6.6\n'
    forged: Scope = {**SCOPE, "path": path, "query_string": b""}
    [line] = await logged(caplog, forged, {"type": "http.response.start", "status": 404})
    shown = "/a%20HTTP/1.1%22%20200%20remote%3D10.6.6.6%0A"
    assert line == f'10.0.0.1:5000 - "POST {shown} HTTP/2" 404'


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (({"type": "websocket.accept"}, {"type": "websocket.close"}), 101),
        (({"type": "websocket.close"},), 403),
        (({"type": "websocket.http.response.start", "status": 401},), 401),
    ],
)
@in_loop
async def test_a_websocket_is_one_line_with_the_answer_to_its_handshake(
    sent: tuple[Message, ...], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    scope = {key: value for key, value in SCOPE.items() if key not in ("method", "query_string")}
    lines = await logged(caplog, scope | {"type": "websocket"}, *sent)
    assert lines == [f'10.0.0.1:5000 - "WebSocket /search HTTP/2" {status}']


@in_loop
async def test_a_lifespan_is_no_request(caplog: pytest.LogCaptureFixture) -> None:
    sent = {"type": "lifespan.startup.complete"}
    assert await logged(caplog, {"type": "lifespan"}, sent) == []
