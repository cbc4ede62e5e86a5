"""The same channels, the same scenarios: in the server's process, in code workers beside it, mounted
in uvicorn's process, over gRPC, over HTTP.

With ``ANYCABLE_GO`` in the environment, behind anycable-go as well.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from tests.channels.chat import RESTORED
from tests.channels.serving import IN_PROCESS, grpc_rpc, http_rpc
from tests.parts.asgi_host import AsgiHost, asgi_host
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier, rejected
from tests.parts.ports import free_port
from tests.parts.server import OURS, CableServer, cable_server
from tests.parts.web_app import host

WAYS = ["in_process", "code_workers", "mounted", "grpc", "http"]
if "ANYCABLE_GO" in os.environ:
    WAYS += ["reference_grpc", "reference_http"]

KEY = "rpc-s3cret"
EXTENDED = ("actioncable-v1-ext-json",)
LOG = identifier("LogChannel")

_rooms = itertools.count(1)


@dataclass
class World:
    """A running server and its application."""

    server: CableServer | AsgiHost
    way: str

    def client(self, name: str, **options: object) -> CableClient:
        """A client that is connected."""
        client = CableClient(f"{self.server.cable_url}?name={name}", **options)  # type: ignore[arg-type]
        client.receive_welcome()
        return client

    def log(self) -> CableClient:
        """A client that receives the calls of the application."""
        client = self.client("log")
        assert client.subscribe(LOG) == confirmed(LOG)
        return client


@pytest.fixture(scope="module", params=WAYS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    way: str = request.param
    flags = ["--broker=memory", "--broadcast_adapter=http"]
    if not way.startswith("reference"):
        flags.append(f"--restored_action={RESTORED}")
    if way == "code_workers":
        flags.append("--app_workers=2")
    if way in ("in_process", "code_workers"):
        with cable_server(*flags, command=IN_PROCESS) as own:
            yield World(own, way)
        return
    if way == "mounted":
        with asgi_host(host(broker="memory")) as server:
            yield World(server, way)
        return
    port = free_port()
    command = (os.environ["ANYCABLE_GO"],) if way.startswith("reference") else OURS
    is_grpc = way.endswith("grpc")
    flags += (
        [f"--rpc_host=127.0.0.1:{port}"]
        if is_grpc
        else [f"--rpc_host=http://127.0.0.1:{port}/_anycable", f"--http_rpc_secret={KEY}"]
    )
    with cable_server(*flags, command=command) as other:
        serving: AbstractContextManager[None] = (
            grpc_rpc(other, port) if is_grpc else http_rpc(other, port, KEY)
        )
        with serving:
            yield World(other, way)


@pytest.fixture
def room() -> str:
    """A new room."""
    return identifier("RoomChannel", id=next(_rooms), quiet=True)


def enter(client: CableClient, room: str, name: str) -> CableClient:
    assert client.subscribe(room) == confirmed(room)
    assert client.receive() == delivered(room, {"hello": name})
    return client


def test_identifiers_come_from_the_request(world: World, room: str) -> None:
    with world.client("jack") as jack:
        enter(jack, room, "jack")
    with CableClient(world.server.cable_url, headers={"Cookie": "name=jill"}) as jill:
        jill.receive_welcome()
        enter(jill, room, "jill")


def test_unknown_clients_are_rejected(world: World) -> None:
    with CableClient(world.server.cable_url) as stranger:
        goodbye = {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
        assert stranger.receive() == goodbye
        stranger.wait_for_close()


@pytest.mark.parametrize(
    "params", [{}, {"id": "1"}, {"id": -1}, {"id": 1, "quiet": "yes"}, {"id": None}]
)
def test_wrong_params_and_unknown_channels_are_rejected(
    world: World, params: dict[str, object]
) -> None:
    wrong = identifier("RoomChannel", **params)
    unknown = identifier("NoChannel")
    with world.client("jack") as jack:
        assert jack.subscribe(wrong) == rejected(wrong)
        assert jack.subscribe(unknown) == rejected(unknown)
        jack.expect_nothing()


def test_actions_have_typed_arguments_and_broadcast(world: World, room: str) -> None:
    with world.client("jack") as jack, world.client("jill") as jill:
        enter(jack, room, "jack")
        enter(jill, room, "jill")
        jack.perform(room, "say", text=1)
        jack.perform(room, "nothing")
        jack.perform(room, "say", text="hi")
        for each in (jack, jill):
            assert each.receive()["message"] == {"text": "hi"}


def test_to_others_excludes_the_caller(world: World, room: str) -> None:
    with world.client("jack") as jack, world.client("jill") as jill:
        enter(jack, room, "jack")
        enter(jill, room, "jill")
        jack.perform(room, "say_to_others", text="hi")
        assert jill.receive()["message"] == {"text": "hi"}
        jack.expect_nothing()


def test_state_survives_between_calls(world: World, room: str) -> None:
    second = identifier("RoomChannel", id=next(_rooms), quiet=True)
    with world.client("jack") as jack:
        enter(jack, room, "jack")
        enter(jack, second, "jack")
        for number, word in enumerate(("a", "b"), 1):
            jack.perform(room, "add", word=word)
            words = ["a", "b"][:number]
            state = {"words": words, "count": number + 1, "calls": number}
            assert jack.receive() == delivered(room, state)
        jack.perform(second, "add", word="c")
        state = {"words": ["c"], "count": 2, "calls": 3}
        assert jack.receive() == delivered(second, state)


def test_streams_start_and_stop(world: World, room: str) -> None:
    other = identifier("RoomChannel", id=next(_rooms), quiet=True)
    name = other.partition('"id": ')[2].partition(",")[0]
    with world.client("jack") as jack, world.client("jill") as jill:
        enter(jack, room, "jack")
        enter(jill, other, "jill")
        jack.perform(room, "follow", stream=f"RoomChannel:{name}")
        assert jack.receive()["message"] == "following"
        jill.perform(other, "say", text="one")
        assert jack.receive()["message"] == {"text": "one"}
        jack.perform(room, "unfollow", stream=f"RoomChannel:{name}")
        assert jack.receive()["message"] == "stopped"
        jill.perform(other, "say", text="two")
        assert [jill.receive()["message"] for _ in range(2)] == [{"text": "one"}, {"text": "two"}]
        jack.expect_nothing()
        jack.perform(room, "unfollow_all")
        assert jack.receive()["message"] == "stopped"
        jack.perform(room, "say", text="three")
        jack.expect_nothing()


def test_whispers_reach_other_clients(world: World, room: str) -> None:
    with world.client("jack") as jack, world.client("jill") as jill:
        enter(jack, room, "jack")
        enter(jill, room, "jill")
        jack.send("whisper", identifier=room, data={"typing": True})
        assert jill.receive()["message"] == {"typing": True}
        jack.expect_nothing()


def test_members_join_and_leave(world: World) -> None:
    room = identifier("RoomChannel", id=next(_rooms))
    with world.client("jack") as jack, world.client("jill") as jill:
        assert jack.subscribe(room) == confirmed(room)
        received = [jack.receive() for _ in range(2)]
        assert delivered(room, {"hello": "jack"}) in received
        assert jill.subscribe(room) == confirmed(room)
        joined = jack.receive()
        assert joined["type"] == "presence"
        assert joined["message"]["type"] == "join"
        assert joined["message"]["id"] == "jill"
        jill.perform(room, "hide")
        left = jack.receive()
        assert left["message"] == {"type": "leave", "id": "jill"}
        jack.send("presence", identifier=room)
        here = jack.receive()["message"]
        assert [each["id"] for each in here["records"]] == ["jack"]


def test_an_exception_in_an_action_fails_this_call_only(world: World, room: str) -> None:
    with world.client("jack") as jack:
        enter(jack, room, "jack")
        jack.perform(room, "divide", by=0)
        jack.perform(room, "look_up", key="x")
        assert jack.receive() == delivered(room, {"unknown": "x"})
        jack.perform(room, "add", word="a")
        assert jack.receive()["message"] == {"words": ["a"], "count": 2, "calls": 1}


def next_event(log: CableClient, name: str) -> list[object]:
    """The next call for a client; calls for other clients are skipped."""
    while (message := log.receive()["message"])[0] != name:
        pass
    rest: list[object] = message[1:]
    return rest


def test_each_end_is_reported_once(world: World) -> None:
    first, second = next(_rooms), next(_rooms)
    rooms = [identifier("RoomChannel", id=each, quiet=True) for each in (first, second)]
    name = f"pat{first}"
    with world.log() as log:
        pat = enter(world.client(name), rooms[0], name)
        enter(pat, rooms[1], name)
        pat.send("unsubscribe", identifier=rooms[0])
        assert next_event(log, name) == [f"left {first}", 1]
        pat.close()
        assert next_event(log, name) == [f"left {second}", 1]
        assert next_event(log, name) == ["disconnected"]
        # Nothing else of this client comes before the calls of the next one.
        world.client(f"{name}-friend").close()
        while (message := log.receive()["message"])[0] != f"{name}-friend":
            assert message[0] != name


def test_an_action_may_end_the_connection(world: World, room: str) -> None:
    with world.client("jack") as jack:
        enter(jack, room, "jack")
        jack.perform(room, "bye")
        assert jack.receive() == delivered(room, "bye")
        jack.wait_for_close()


def test_a_resumed_session_keeps_its_state_and_restored_runs(world: World, room: str) -> None:
    if world.way.startswith("reference"):
        # It does not report resumed sessions, which restored_action adds.
        return
    jack = CableClient(f"{world.server.cable_url}?name=jack", subprotocols=EXTENDED)
    sid = jack.receive_welcome()["sid"]
    enter(jack, room, "jack")
    jack.perform(room, "add", word="a")
    assert jack.receive()["message"]["count"] == 2
    jack.drop()
    with CableClient(f"{world.server.cable_url}?sid={sid}", subprotocols=EXTENDED) as back:
        assert back.receive_welcome()["restored"] is True
        assert back.receive() == delivered(room, {"restored": "jack", "count": 2})
        back.perform(room, "add", word="b")
        state = {"words": ["a", "b"], "count": 3, "calls": 2}
        assert back.receive() == delivered(room, state)
    jack.close()
