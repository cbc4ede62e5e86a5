"""Authorization of HTTP requests: method, key, preflights, CORS headers."""

import pytest

from catenary.api.access import Access, ApiResponse, send_answer
from catenary.auth.origins import Origins
from tests.parts.asgi_events import Events
from tests.parts.heart import in_loop

KEY = "s3cret"


@pytest.mark.parametrize(
    ("method", "authorization", "status"),
    [
        ("POST", f"Bearer {KEY}", None),
        ("POST", f"bearer {KEY}", 401),
        ("POST", "Bearer other", 401),
        ("POST", "", 401),
        ("GET", f"Bearer {KEY}", 422),
        ("OPTIONS", "", 422),
    ],
)
def test_a_method_and_a_key(method: str, authorization: str, status: int | None) -> None:
    answer = Access("POST", key=KEY, pages=None).check(method, authorization)
    assert (None if answer is None else answer.status) == status


def test_without_a_key_everyone_may_send() -> None:
    assert Access("POST", key="", pages=None).check("POST", "") is None


def test_a_preflight_needs_no_key() -> None:
    assert Access("GET", key=KEY, pages=Origins([])).check("OPTIONS", "") == ApiResponse(200)


@pytest.mark.parametrize(
    ("pages", "origin", "allowed"),
    [
        (Origins([]), "https://a.test", "*"),
        (Origins(["a.test"]), "https://a.test", "https://a.test"),
        (Origins(["a.test"]), "https://b.test", None),
        (None, "https://a.test", None),
    ],
    ids=["all", "listed", "another", "no CORS"],
)
def test_pages_that_may_call(pages: Origins | None, origin: str, allowed: str | None) -> None:
    headers = dict(Access("GET", key="", pages=pages).cors(origin))
    assert headers.get("access-control-allow-origin") == allowed
    assert ("vary" in headers) is (allowed == origin)
    assert ("access-control-allow-methods" in headers) is (pages is not None)


@in_loop
async def test_an_error_is_json_with_its_length() -> None:
    events = Events()
    await send_answer(events.send, ApiResponse(422, "expected “POST”"), [("x-own", "1")])
    assert events.status == 422
    assert events.body == '{"error":"expected “POST”"}'.encode()
    assert events.headers == {
        "content-type": "application/json",
        "content-length": str(len(events.body)),
        "x-own": "1",
    }


@in_loop
async def test_an_empty_answer_has_no_type() -> None:
    events = Events()
    await send_answer(events.send, ApiResponse(201), ())
    assert (events.status, events.body, events.headers) == (201, b"", {"content-length": "0"})
