"""Refused requests of the HTTP endpoints are counted, and reported with their sender and the reason."""

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from catenary.api.refusals import ApiRefusals, RefusalReporter
from catenary.messages.environment import Requester
from catenary.metrics.counters import Counters
from catenary.node.observers import ObserverGroup
from catenary.silent_observer import SilentObserver
from tests.parts.heart import in_loop

SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/api/publish",
    "client": ("10.0.0.1", 5000),
    "headers": [(b"authorization", b"Bearer wrong"), (b"origin", b"http://page.test")],
}
REQUESTER = Requester("10.0.0.1", "POST", "/api/publish", "http://page.test")


class Noting(SilentObserver):
    def __init__(self) -> None:
        self.noted: list[tuple[Any, ...]] = []

    def request_refused(self, requester: Requester, status: int, why: str) -> None:
        self.noted.append((requester, status, why))


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (401, b'{"error":"expected the key"}', "expected the key"),
        (403, b"not allowed\n", "not allowed"),
        (413, b"", "status 413"),
        (422, b'{"other":1}', "status 422"),
        (404, b'{"error":"no such path"}', None),
        (200, b"{}", None),
        (503, b'{"error":"away"}', None),
    ],
)
@in_loop
async def test_which_answers_are_refusals(status: int, body: bytes, why: str | None) -> None:
    sent: list[Message] = []
    answer: list[Message] = [
        {"type": "http.response.start", "status": status},
        {"type": "http.response.body", "body": body},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for each in answer:
            await send(each)

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        sent.append(message)

    counters, observer = Counters(), Noting()
    refusals = ApiRefusals(counters, ObserverGroup([observer]))
    await RefusalReporter(app, refusals)(SCOPE, receive, send)
    assert sent == answer
    assert counters.refused_api_requests_total == (why is not None)
    assert observer.noted == ([] if why is None else [(REQUESTER, status, why)])
