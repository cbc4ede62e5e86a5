"""GraphQL clients from npm, with applications in Python (strawberry, ariadne) and one that answers as GraphQL Ruby does."""

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.parts.graphql_ruby_app import graphql_ruby_app
from tests.parts.node import NodeClient
from tests.parts.server import OURS, CableServer, cable_server
from tests.parts.tcp_relay import tcp_relay
from tests.parts.tokens import SECRET, token

CHAT = Path(__file__).parents[2] / "examples" / "graphql_chat"
DRIVERS = {
    "graphql-ws": "graphql_ws.mjs",
    "subscriptions-transport-ws": "subscriptions_transport.mjs",
}
FLAGS = (
    "--graphql_path=/graphql",
    "--graphql_idle_timeout=1",
    "--ping_interval=1",
    "--metrics_http=/metrics",
)
LISTEN = "subscription($room: String!) { messages(room: $room) { name text } }"
SAY = "mutation($room: String!, $text: String!) { say(room: $room, text: $text) }"


@pytest.fixture(scope="module")
def strawberry() -> Iterator[CableServer]:
    with python_server("app:cable") as server:
        yield server


@pytest.fixture(scope="module")
def ariadne() -> Iterator[CableServer]:
    with python_server("ariadne_app:cable") as server:
        yield server


@pytest.fixture(scope="module")
def ruby() -> Iterator[CableServer]:
    with graphql_ruby_app() as (application, rpc_host):
        flags = (f"--rpc_host={rpc_host}", "--broadcast_adapter=http", *FLAGS)
        with cable_server(*flags) as server:
            application.broadcast_url = server.broadcast_url
            yield server


@pytest.fixture(params=["strawberry", "ariadne", "ruby"])
def server(request: pytest.FixtureRequest) -> CableServer:
    server: CableServer = request.getfixturevalue(request.param)
    return server


def python_server(cable: str, *flags: str) -> AbstractContextManager[CableServer]:
    return cable_server(*FLAGS, *flags, command=(*OURS, cable), directory=CHAT)


@pytest.fixture(params=list(DRIVERS))
def driver(request: pytest.FixtureRequest) -> str:
    return DRIVERS[request.param]


class GraphqlPage(NodeClient):
    def __init__(self, driver: str, port: int, name: str = "Ann", **options: object) -> None:
        url = f"ws://127.0.0.1:{port}/graphql"
        super().__init__(driver, {"url": url, "params": {"name": name}, **options})

    def start(self, name: str, query: str, **variables: object) -> None:
        self.do("start", name=name, query=query, variables=variables)

    def until(self, condition: Callable[[], object], timeout_s: float = 30) -> None:
        """Returns once a condition over what was told holds; ``wait_for`` passes over what came before."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.told("frame")
            time.sleep(0.01)

    def results(self, name: str) -> list[Any]:
        return [told["result"] for told in self.told("next") if told["name"] == name]

    def is_over(self, name: str) -> bool:
        ends = [*self.told("complete"), *self.told("error")]
        return any(told["name"] == name for told in ends)

    def answer(self, name: str, query: str, **variables: object) -> Any:
        """Executes a query or a mutation; its result."""
        self.start(name, query, **variables)
        self.until(lambda: self.is_over(name))
        (result,) = self.results(name)
        return result

    def until_listeners(self, room: str, number: int) -> None:
        """The source of a subscription starts some turns after its operation, and ends some turns after it is stopped."""
        attempts = itertools.count()

        def is_so() -> bool:
            name = f"{room} {number} {next(attempts)}"
            return bool(self.answer(name, SAY, room=room, text="?") == {"data": {"say": number}})

        self.until(is_so)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def said(text: str, name: str = "Ann") -> dict[str, Any]:
    return {"data": {"messages": {"name": name, "text": text}}}


def test_queries_mutations_and_subscriptions(server: CableServer, driver: str) -> None:
    with GraphqlPage(driver, server.port) as page:
        assert page.answer("me", "{ me }") == {"data": {"me": "Ann"}}
        for room in ("lobby", "kitchen"):
            page.start(room, LISTEN, room=room)
            page.until_listeners(room, 1)
        assert page.answer("say", SAY, room="lobby", text="hé") == {"data": {"say": 1}}
        page.until(lambda: said("hé") in page.results("lobby"))
        page.do("stop", name="lobby")
        page.until_listeners("lobby", 0)
        assert page.answer("after", SAY, room="kitchen", text="here") == {"data": {"say": 1}}
        page.until(lambda: said("here") in page.results("kitchen"))
        assert page.results("lobby")[-1] == said("hé")
        assert {each["data"]["messages"]["text"] for each in page.results("kitchen")} == {
            "?",
            "here",
        }


def test_an_invalid_operation_is_an_error(server: CableServer, driver: str) -> None:
    """Python's libraries answer with ``"data": null``, which makes it a result; GraphQL Ruby without."""
    with GraphqlPage(driver, server.port) as page:
        for query in ("{ unknown }", "subscription { unknown }"):
            page.start(query, query)
            page.until(lambda name=query: page.is_over(name))  # type: ignore[misc]
            errors = [told["error"] for told in page.told("error") if told["name"] == query]
            errors += [result["errors"] for result in page.results(query)]
            assert "unknown" in errors[0][0]["message"]


def test_a_refused_connection(strawberry: CableServer, driver: str) -> None:
    with GraphqlPage(driver, strawberry.port, name="") as page:
        page.start("me", "{ me }")
        told = page.wait_for("close")
        assert (told["code"], told["reason"]) == (4403, "Forbidden")
        if driver == "graphql_ws.mjs":
            assert page.wait_for("error")["error"] == {"code": 4403, "reason": "Forbidden"}
        else:
            assert [told["error"] for told in page.told("refused")] == [{"message": "Forbidden"}]


def test_a_client_is_kept_alive(strawberry: CableServer, driver: str) -> None:
    with GraphqlPage(driver, strawberry.port, keepAlive=200) as page:
        page.start("room", LISTEN, room="quiet")
        page.wait_for_frame(type="ping" if driver == "graphql_ws.mjs" else "ka")
        if driver == "graphql_ws.mjs":
            page.until(lambda: any(each["type"] == "pong" for each in page.frames()))


def test_a_client_that_is_cut_off_connects_and_subscribes_again(
    strawberry: CableServer, driver: str
) -> None:
    with (
        tcp_relay(strawberry.port) as relay,
        GraphqlPage(driver, relay.port, retries=5, reconnect=True) as page,
        GraphqlPage(driver, strawberry.port, name="Ben") as other,
    ):
        page.start("cut", LISTEN, room=f"cut {driver}")
        other.until_listeners(f"cut {driver}", 1)
        assert relay.cut() == 1
        page.until(lambda: len(page.told("open")) == 2)
        other.until_listeners(f"cut {driver}", 1)
        other.answer("again", SAY, room=f"cut {driver}", text="again")
        page.until(lambda: said("again", "Ben") in page.results("cut"))


def test_a_client_that_leaves_ends_its_subscriptions(strawberry: CableServer, driver: str) -> None:
    with GraphqlPage(driver, strawberry.port, name="Ben") as other:
        with GraphqlPage(driver, strawberry.port) as page:
            page.start("left", LISTEN, room="left")
            other.until_listeners("left", 1)
        other.until_listeners("left", 0)


def test_a_token_among_the_params() -> None:
    flags = (*FLAGS, f"--jwt_secret={SECRET}", "--norpc", "--enforce_jwt")
    with cable_server(*flags) as server:
        for jid, code in ((token({"ext": '{"name":"Ann"}'}), 0), ("wrong", 4403), (None, 4403)):
            params = {} if jid is None else {"jid": jid}
            with GraphqlPage("graphql_ws.mjs", server.port, params=params) as page:
                page.start("me", "{ me }")
                if code:
                    assert page.wait_for("close")["code"] == code
                else:
                    (error,) = page.wait_for("error", name="me")["error"]
                    assert error == {"message": "The subscription was rejected"}


def test_a_server_that_stops_asks_its_clients_to_return(driver: str) -> None:
    with python_server("app:cable") as server, GraphqlPage(driver, server.port) as page:
        page.start("room", LISTEN, room="room")
        page.until_listeners("room", 1)
        server.stop()
        assert page.wait_for("close")["code"] == 1001


def test_a_subscription_in_a_code_worker_ends_when_its_code_is_reloaded(driver: str) -> None:
    with (
        python_server("app:cable", "--app_workers=1") as server,
        GraphqlPage(driver, server.port) as page,
    ):
        page.start("room", LISTEN, room="room")
        page.until_listeners("room", 1)
        server.process.send_signal(signal.SIGHUP)
        page.until(lambda: page.is_over("room"))
        page.start("again", LISTEN, room="room")
        page.until_listeners("room", 1)
        page.until(lambda: page.results("again"))
