"""The gate of the console: who passes, what the others see, and the headers of every answer."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from catenary.auth.origins import Origins
from catenary.console.gate import COOKIE, HEADER, LOGIN_FILES, Gate
from catenary.console.hosts import OwnHosts
from catenary.console.login_limit import FREE_TRIES, MAX_WAIT_S
from catenary.console.static_files import StaticFiles
from catenary.metrics.counters import Counters

KEY = "schlüssel"
PATH = "/_high_voltage_"
HOST = "cable.example:8080"
CHANGES = {HEADER: "1"}


class Answer:
    """A response that has been sent completely."""

    def __init__(self, messages: list[Any]) -> None:
        start, *bodies = messages
        self.status: int = start["status"]
        self.headers: dict[str, str] = {
            name.decode(): value.decode() for name, value in start["headers"]
        }
        self.body = b"".join(each.get("body", b"") for each in bodies)

    @property
    def cookie(self) -> str:
        """The session."""
        pair, _, _ = self.headers["set-cookie"].partition(";")
        return pair.partition("=")[2]


class Visitor:
    """Sends requests to a gate, behind which everything is the word "inside"."""

    def __init__(self, key: str = KEY, **more: Any) -> None:
        self.counters = Counters()
        self.now = 100.0
        self.gate = Gate(
            self._inside,
            key=key,
            path=PATH,
            cable_port=8080,
            counters=self.counters,
            own_hosts=OwnHosts("", Origins(["cable.example:8080"])),
            show_login=StaticFiles().response,
            clock=lambda: self.now,
            **more,
        )
        self.address = "10.0.0.1"
        self.scheme = "http"
        self.session = ""

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("inside")(scope, receive, send)

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Answer:
        fields = {"host": HOST, **(headers or {})}
        if self.session:
            fields["cookie"] = f"other=1; {COOKIE}={self.session}"
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": PATH + path,
            "root_path": PATH,
            "query_string": b"",
            "scheme": self.scheme,
            "client": (self.address, 5000),
            "server": ("127.0.0.1", 8080),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        asyncio.run(self.gate(scope, receive, send))
        return Answer(messages)

    def log_in(self, key: str = KEY, **headers: str) -> Answer:
        answer = self.ask(
            "/login", "POST", {**CHANGES, "authorization": f"Bearer {key}", **headers}
        )
        if answer.status == 204:
            self.session = answer.cookie
        return answer


# The way in


@pytest.mark.parametrize(
    "path", ["/", "/console.js", "/index.html", "/console.css", "/nothing", ""]
)
def test_without_a_session_every_page_leads_to_the_login(path: str) -> None:
    answer = Visitor().ask(path)
    assert (answer.status, answer.headers["location"]) == (303, f"{PATH}/login")
    assert answer.body == b""


@pytest.mark.parametrize("path", ["/api/stats", "/api/config", "/api/nothing", "/api/"])
def test_without_a_session_the_api_answers_401(path: str) -> None:
    assert Visitor().ask(path).status == 401
    assert Visitor().ask(path, "POST", CHANGES).status == 401


def test_the_login_page_shows_nothing_of_the_console() -> None:
    visitor = Visitor()
    assert "inside" not in visitor.ask("/login").body.decode()
    assert {"login.html", "login.css", "login.js", "theme.css", "icon.svg"} == LOGIN_FILES
    for name in LOGIN_FILES:
        assert visitor.ask(f"/{name}").status == 200


def test_the_key_opens_the_console_for_this_browser() -> None:
    visitor = Visitor()
    assert visitor.log_in().status == 204
    assert visitor.ask("/").body == b"inside"
    assert visitor.ask("/api/stats").body == b"inside"
    assert visitor.ask("/login").headers["location"] == f"{PATH}/"


def test_the_login_page_learns_whether_there_is_a_session_already() -> None:
    """A link from another site brings no cookie (SameSite=Strict), the page's own request does."""
    visitor = Visitor()
    assert visitor.ask("/session").body == b'{"is_valid":false}'
    visitor.log_in()
    assert visitor.ask("/session").body == b'{"is_valid":true}'


def test_the_cookie_is_for_this_path_alone_and_no_script_reads_it() -> None:
    cookie = Visitor().log_in().headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert f"path={PATH}" in cookie
    assert "max-age=43200" in cookie
    assert "secure" not in cookie


def test_under_tls_the_cookie_is_secure_also_behind_a_proxy() -> None:
    visitor = Visitor()
    visitor.scheme = "https"
    assert "secure" in visitor.log_in().headers["set-cookie"].lower()
    visitor.scheme = "http"
    origin = {"origin": f"https://{HOST}"}
    assert "secure" in visitor.log_in(KEY, **origin).headers["set-cookie"].lower()


def test_logging_out_ends_the_session_of_this_browser() -> None:
    visitor = Visitor()
    visitor.log_in()
    answer = visitor.ask("/logout", "POST", CHANGES)
    assert answer.status == 204
    assert answer.cookie in ('""', "")
    assert "max-age=0" in answer.headers["set-cookie"].lower()


def test_without_a_key_everybody_is_inside() -> None:
    visitor = Visitor(key="")
    assert visitor.ask("/").body == b"inside"
    assert visitor.ask("/api/publish", "POST", CHANGES).body == b"inside"


# Wrong keys


def test_a_wrong_key_is_refused_and_counted() -> None:
    visitor = Visitor()
    answer = visitor.log_in("a-guess")
    assert (answer.status, answer.body) == (401, b'{"error":"wrong key"}')
    assert "set-cookie" not in answer.headers
    assert visitor.counters.console_refused_logins_total == 1


def test_wrong_keys_are_slowed_down_and_then_the_right_one_must_wait_too() -> None:
    visitor = Visitor()
    for _ in range(FREE_TRIES):
        assert visitor.log_in("a-guess").status == 401
    answer = visitor.log_in()
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert visitor.counters.console_refused_logins_total == FREE_TRIES + 1
    visitor.address = "10.0.0.2"
    assert visitor.log_in().status == 204
    visitor.address = "10.0.0.1"
    visitor.now += MAX_WAIT_S
    assert visitor.log_in().status == 204


def test_an_empty_key_and_none_are_wrong() -> None:
    visitor = Visitor()
    assert visitor.log_in("").status == 401
    assert visitor.ask("/login", "POST", CHANGES).status == 401


# Pages of other sites


def test_without_a_key_no_other_site_can_use_a_name_of_its_own_for_the_console() -> None:
    """DNS rebinding: the browser takes such requests for those of the console's own page."""
    rebound = {"host": "rebound.example:8080", "sec-fetch-site": "same-origin"}
    visitor = Visitor(key="")
    for path, method in (("/", "GET"), ("/api/stats", "GET"), ("/api/publish", "POST")):
        answer = visitor.ask(path, method, {**CHANGES, **rebound})
        assert answer.status == 403
        assert b"got 'rebound.example:8080'; set allowed_origins" in answer.body
    visitor = Visitor()
    visitor.log_in()
    assert visitor.ask("/api/stats", headers=rebound).body == b"inside"


@pytest.mark.parametrize("key", ["", KEY])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": HOST},
        {"origin": "http://cable.example:9999"},
    ],
)
def test_a_page_of_another_site_reads_and_changes_nothing(
    key: str, headers: dict[str, str]
) -> None:
    visitor = Visitor(key)
    visitor.log_in()
    assert visitor.ask("/api/stats", headers=headers).status == 403
    assert visitor.ask("/api/publish", "POST", {**CHANGES, **headers}).status == 403
    assert visitor.ask("/login", "POST", {**CHANGES, **headers}).status == 403


def test_a_change_needs_the_header_that_forms_can_not_send() -> None:
    visitor = Visitor()
    visitor.log_in()
    for method in ("POST", "DELETE", "PUT"):
        assert visitor.ask("/api/publish", method).status == 403
        assert visitor.ask("/api/publish", method, CHANGES).status == 200


def test_links_from_elsewhere_lead_to_the_console() -> None:
    visitor = Visitor(key="")
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert visitor.ask("/", headers=link).body == b"inside"
    assert visitor.ask("/", headers={"sec-fetch-site": "none"}).body == b"inside"


def test_the_page_of_the_console_is_the_same_origin() -> None:
    visitor = Visitor()
    visitor.log_in()
    own = {"sec-fetch-site": "same-origin", "origin": f"http://{HOST}"}
    assert visitor.ask("/api/publish", "POST", {**CHANGES, **own}).status == 200
    old_browser = {"origin": f"http://{HOST}"}
    assert visitor.ask("/api/publish", "POST", {**CHANGES, **old_browser}).status == 200


# Headers


def policy(visitor: Visitor, host: str) -> dict[str, str]:
    answer = visitor.ask("/", headers={"host": host})
    rules = answer.headers["content-security-policy"].split("; ")
    return {name: sources for name, _, sources in (each.partition(" ") for each in rules)}


@pytest.mark.parametrize(("path", "method"), [("/", "GET"), ("/login", "GET"), ("/api/x", "POST")])
@pytest.mark.parametrize("key", ["", KEY])
def test_every_answer_forbids_what_the_console_does_not_need(
    path: str, method: str, key: str
) -> None:
    headers = Visitor(key).ask(path, method).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "cache-control" in headers
    rules = headers["content-security-policy"]
    assert rules.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "frame-ancestors 'none'" in rules
    assert "unsafe" not in rules


@pytest.mark.parametrize(
    ("host", "sources"),
    [
        ("localhost:8080", "ws://localhost:8080 wss://localhost:8080"),
        (
            "localhost:9000",
            "ws://localhost:8080 wss://localhost:8080 ws://localhost:9000 wss://localhost:9000",
        ),
        ("[::1]:8080", "ws://[::1]:8080 wss://[::1]:8080"),
        ("[::1]", "ws://[::1] wss://[::1] ws://[::1]:8080 wss://[::1]:8080"),
        ("a.example", "ws://a.example wss://a.example ws://a.example:8080 wss://a.example:8080"),
        ("a.example; script-src *", ""),
        ("a.example *", ""),
        ("", ""),
    ],
)
def test_pages_connect_to_this_server_alone(host: str, sources: str) -> None:
    assert policy(Visitor(""), host)["connect-src"] == f"'self' {sources}".strip()


# Files


def file_answer(name: str, **headers: str) -> Answer:
    visitor = Visitor()
    files = StaticFiles()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await files.response(Request(scope), name)(scope, receive, send)

    visitor.gate._app = app
    visitor.log_in()
    return visitor.ask(f"/{name}", headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_file_that_the_browser_has_is_not_sent_again() -> None:
    answer = file_answer("console.js")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-cache")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    again = file_answer("console.js", if_none_match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")


def test_files_are_compressed_for_browsers_that_can_read_it() -> None:
    plain, small = file_answer("console.js"), file_answer("console.js", accept_encoding="br, gzip")
    assert small.headers["content-encoding"] == "gzip"
    assert len(small.body) < len(plain.body) / 2
    assert "accept-encoding" in small.headers["vary"]


@pytest.mark.parametrize("name", ["nothing.js", "../gate.py", "__init__.py", "pages"])
def test_there_is_no_way_to_other_files(name: str) -> None:
    assert file_answer(name).status == 404
