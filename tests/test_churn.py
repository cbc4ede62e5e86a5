"""Clients come and go in every way there is, and the server holds what it held before.

Memory varies with the allocators' pieces. What is held can be counted: blocks of the interpreter,
objects by type, bytes of malloc. One object that each client leaves is visible in each.
"""

import itertools
import json
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from bench.blocks import Allocations, ask
from tests.parts.application import TestApplication
from tests.parts.grpc_app import GrpcServer, grpc_server
from tests.parts.raw_socket import CLOSE, RawSocket, command, masked, upgrade
from tests.parts.redis import RedisServer, redis_server
from tests.parts.server import CableServer, cable_server

pytestmark = pytest.mark.timeout(500)
"""The first of these tests lets clients come and go for all: about 90 s on a machine with no other work."""

AT_ONCE: Final = 20
WARM_UP: Final = 52
"""Rounds in which caches fill up that have a limit: the largest is of 1,024 sids as headers of gRPC."""
ROUNDS: Final = 50
CLIENTS: Final = AT_ONCE * ROUNDS

AGAIN: Final = 2
"""How often a server that has more than before is visited again."""

OBJECTS: Final = ROUNDS // 5
"""What may be different of each type: what happens once may have happened now."""

BLOCKS: Final = CLIENTS // 2
"""What the count of blocks may differ by, half an object for each client: the loop keeps up to 250
handles of each of two kinds for the next ones."""

MALLOC_BYTES: Final = 64 * CLIENTS
"""An object that is too large for a block has 512 bytes and more; the table of a full cache, which is
replaced now and then, has 40,000."""

FORGOTTEN_S: Final = 13.0
"""Time until nothing of a client is stored: with a history of 1 s, its position in a stream is kept for 10 s more."""

EXTENDED: Final = "actioncable-v1-ext-json"

numbers: Final = itertools.count()
"""Makes names unique."""


# Actions of clients, AT_ONCE at a time


def plain(server: CableServer) -> None:
    """All on one stream; half of them give their subscription back, half are cut off."""
    with crowd(server) as clients:
        for each in clients:
            each.send(command("subscribe", stream("all")))
            expect(each, "confirm_subscription")
        publish(server, "all")
        for number, each in enumerate(clients):
            assert each.message()["message"] == 1
            if number % 2:
                each.send(command("unsubscribe", stream("all")), masked(b"\x03\xe8", CLOSE))
                each.goodbye()


def private(server: CableServer) -> None:
    """A stream for each, which no other ever has; they whisper there."""
    with crowd(server) as clients:
        for each in clients:
            name = unique("private")
            each.send(command("subscribe", stream(name, of=name)))
            expect(each, "confirm_subscription")
            each.send(command("whisper", stream(name, of=name), data={"x": 1}))
            publish(server, name)
            assert each.message()["message"] == 1


def identifiers(server: CableServer) -> None:
    """Identifiers that no other ever has: rejected ones, others that can't be read, subscriptions."""
    with crowd(server) as clients:
        for each in clients:
            name = unique("of")
            each.send(command("subscribe", json.dumps({"channel": name})))
            expect(each, "reject_subscription")
            each.send(command("subscribe", name))
            expect(each, "reject_subscription")
            each.send(command("subscribe", stream("all", of=name)))
            expect(each, "confirm_subscription")
            each.send(command("message", name, data=name))


def resuming(server: CableServer) -> None:
    """They are cut off; half of them come back for what they missed, half never do."""
    with crowd(server, protocol=EXTENDED) as clients:
        name = unique("kept")
        for each in clients:
            each.send(command("subscribe", stream(name)))
            expect(each, "confirm_subscription")
        publish(server, name)
        heard = [each.message() for each in clients]
    publish(server, name)
    for each, last in list(zip(clients, heard, strict=True))[::2]:
        with Visitor(server, f"/cable?sid={each.sid}", protocol=EXTENDED) as back:
            assert back.welcome["restored"] is True
            place = {"offset": last["offset"], "epoch": last["epoch"]}
            back.send(command("history", stream(name), history={"streams": {name: place}}))
            # On a slow machine the message may have expired.
            until(back, lambda it: it.get("type") in ("confirm_history", "reject_history"))


def resuming_on_redis(server: CableServer) -> None:
    """The same where Redis keeps sessions and histories, and each step waits for an answer."""
    resuming(server)


def present(server: CableServer) -> None:
    """Everybody joins; half of them leave, half are forgotten."""
    with crowd(server, protocol=EXTENDED) as clients:
        name = unique("seen")
        for number, each in enumerate(clients):
            each.send(command("subscribe", stream(name)))
            expect(each, "confirm_subscription")
            each.send(command("join", stream(name), presence={"id": unique("member"), "info": {}}))
            if number % 2:
                each.send(command("leave", stream(name)))
            each.send(command("presence", stream(name)))
            while each.message().get("type") != "presence":
                pass


def publications(server: CableServer) -> None:
    """To streams without subscribers, each stored; and a malformed one."""
    for _ in range(AT_ONCE):
        publish(server, unique("unheard"))
    with RawSocket(server.broadcast_port) as publisher:
        body = f"{{{unique('damaged')}".encode()
        head = f"POST /_broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        publisher.send(head.encode() + body)
        assert publisher.answer()[0] == 422


def turned_away(server: CableServer) -> None:
    """Handshakes and requests that are refused, each with something that no other ever says."""
    for _ in range(AT_ONCE // 4):
        for head in (
            upgrade(f"/{unique('nowhere')}"),
            upgrade(f"/cable?{unique('from')}", f"Origin: http://{unique('evil')}.example"),
            upgrade(f"/cable?{unique('old')}").replace(b"Version: 13", b"Version: 12"),
            f"{unique('nothing')}\r\n\r\n".encode(),
        ):
            with RawSocket(server.port) as client:
                client.send(head)
                assert client.head().startswith("HTTP/1.1 4")


def malformed(server: CableServer) -> None:
    """Frames that break the protocol, what is no command, and a message that never ends."""
    for _ in range(AT_ONCE // 4):
        word = unique("word").encode()
        for payload in (
            masked(b"\xff" + word),
            masked(word, first=0xF3),
            masked(word) + masked(b"\x03\xe8", CLOSE),
            masked(word * 10, first=0x01)[:20],
        ):
            with Visitor(server) as client:
                client.send(payload)
                client.socket.shutdown(socket.SHUT_WR)
                client.wait_for_end()


def called(server: CableServer) -> None:
    """An application over gRPC is asked about everything; clients are someone and have state."""
    with crowd(server, "/cable?user=", protocol=EXTENDED) as clients:
        for each in clients:
            room = json.dumps({"channel": "StreamChannel", "room": unique("room")})
            each.send(command("subscribe", room))
            expect(each, "confirm_subscription")
        for each in clients[::5]:
            state = json.dumps({"channel": "StateChannel", "of": unique("state")})
            each.send(command("subscribe", state))
            expect(each, "confirm_subscription")
            data = json.dumps({"action": "set", "key": unique("key"), "value": "x"})
            each.send(command("message", state, data=data))
            each.send(command("message", state, data='{"action": "get"}'))
            assert each.message()["identifier"] == state
            each.send(command("unsubscribe", state))
    for refused in ("reject", "error"):
        with RawSocket(server.port) as client:
            client.send(upgrade(f"/cable?{refused}=1"))
            assert client.head().startswith("HTTP/1.1 101 ")
            client.goodbye()


def in_process(server: CableServer) -> None:
    """An application in the server's process: its states, threads, presence, and Disconnect calls."""
    with crowd(server, "/cable?name=", protocol=EXTENDED) as clients:
        for each in clients:
            room = json.dumps({"channel": "Room", "name": unique("room")})
            each.send(command("subscribe", room))
            until(each, lambda message: message.get("type") == "confirm_subscription")
            for action in ("at_once", "awaiting", "in_a_thread"):
                data = json.dumps({"action": action, "word": unique("word")})
                each.send(command("message", room, data=data))
                until(each, lambda message: "words" in str(message.get("message")))
            each.send(command("message", room, data=json.dumps({"action": unique("unknown")})))
            each.send(command("unsubscribe", room))


# Clients


class Visitor(RawSocket):
    """A client that has been welcomed."""

    def __init__(
        self, server: CableServer, path: str = "/cable", *, protocol: str = "actioncable-v1-json"
    ) -> None:
        super().__init__(server.port)
        self.send(upgrade(path, protocol=protocol))
        assert self.head().startswith("HTTP/1.1 101 ")
        self.welcome: dict[str, Any] = self.message()
        assert self.welcome["type"] == "welcome"

    @property
    def sid(self) -> str:
        return str(self.welcome["sid"])


@contextmanager
def crowd(
    server: CableServer, path: str = "/cable?of=", *, protocol: str = "actioncable-v1-json"
) -> Iterator[list[Visitor]]:
    """Clients whose paths end with something that no other has."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(Visitor(server, path + unique("u"), protocol=protocol))
            for _ in range(AT_ONCE)
        ]


def unique(word: str) -> str:
    return f"{word}-{next(numbers)}"


def stream(name: str, **params: str) -> str:
    return json.dumps({"channel": "$pubsub", "stream_name": name, **params})


def publish(server: CableServer, name: str) -> None:
    body = json.dumps({"stream": name, "data": "1"}).encode()
    urllib.request.urlopen(server.broadcast_url, body).close()


def until(client: Visitor, is_it: Callable[[dict[str, Any]], bool]) -> None:
    while not is_it(client.message()):
        pass


def expect(client: Visitor, kind: str) -> None:
    message = client.message()
    assert message["type"] == kind, message


# The proof

Visit = Callable[[CableServer], None]

FORGETFUL: Final = ("--broker=memory", "--sessions_ttl=1", "--history_ttl=1", "--presence_ttl=1")
ALONE: Final = ("--public", "--norpc")

VARIANTS: Final[dict[Visit, tuple[str, ...]]] = {
    plain: ALONE,
    private: ALONE,
    identifiers: ALONE,
    resuming: (*ALONE, *FORGETFUL),
    resuming_on_redis: (*ALONE, *FORGETFUL[1:], "--broker=redis"),
    present: (*ALONE, *FORGETFUL),
    publications: (*ALONE, *FORGETFUL),
    turned_away: (*ALONE, "--allowed_origins=good.example"),
    malformed: (*ALONE, "--ws_message_timeout=1"),
    called: (*FORGETFUL, "--disconnect_rate=10000"),
    in_process: (*FORGETFUL, "--disconnect_rate=10000"),
}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[Visit, tuple[Allocations, Allocations]]:
    """The contents of each server before its clients and after them. All servers are measured together, because most
    of the time is spent waiting until their clients have expired."""
    directory = tmp_path_factory.mktemp("held")
    with ExitStack() as stack:
        application = stack.enter_context(grpc_server(TestApplication(), workers=4))
        redis = stack.enter_context(redis_server())
        servers = {
            visit: stack.enter_context(counted(visit, directory, application, redis))
            for visit in VARIANTS
        }

        def told() -> dict[Visit, Allocations]:
            return {
                visit: at_rest(server, directory / visit.__name__)
                for visit, server in servers.items()
            }

        churn(servers, WARM_UP)
        told()  # loads what the counting itself needs
        time.sleep(FORGOTTEN_S)
        before = told()
        churn(servers, ROUNDS)
        time.sleep(FORGOTTEN_S)
        after = told()
        # Tables and caches grow until they are full; a client that leaves something leaves it each time.
        for _ in range(AGAIN):
            again = {each: servers[each] for each in VARIANTS if left(before[each], after[each])}
            if not again:
                break
            churn(again, ROUNDS)
            time.sleep(FORGOTTEN_S)
            later = told()
            before |= {visit: after[visit] for visit in again}
            after |= {visit: later[visit] for visit in again}
    return {visit: (before[visit], after[visit]) for visit in VARIANTS}


def left(before: Allocations, after: Allocations) -> dict[str, int]:
    """The differences above the limits."""
    found = differing(before.types, after.types)
    blocks = after.blocks - before.blocks
    if abs(blocks) >= BLOCKS:
        found["blocks"] = blocks
    malloc_bytes = (after.malloc_bytes or 0) - (before.malloc_bytes or 0)
    if abs(malloc_bytes) >= MALLOC_BYTES:
        found["malloc bytes"] = malloc_bytes
    return found


def counted(
    visit: Visit, directory: Path, application: GrpcServer, redis: RedisServer
) -> AbstractContextManager[CableServer]:
    words = ("tests.parts.room_app:cable",) if visit is in_process else ()
    return cable_server(
        *VARIANTS[visit],
        f"--rpc_host={application.address}",
        f"--redis_url={redis.url}",
        *("--broadcast_adapter=http", "--ping_interval=1", "--log_level=error"),
        command=(sys.executable, "-m", "bench.blocks", str(directory / visit.__name__), *words),
        env={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"},
    )


def differing(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    differences = {
        name: after.get(name, 0) - before.get(name, 0) for name in before.keys() | after.keys()
    }
    return {name: by for name, by in differences.items() if abs(by) > OBJECTS}


def at_rest(server: CableServer, path: Path) -> Allocations:
    """The least of some looks: a timer may be in the midst of something."""
    looks = []
    for _ in range(5):
        looks.append(ask(server.process.pid, path))
        time.sleep(0.02)
    return min(looks, key=lambda held: sum(held.types.values()))


def churn(servers: dict[Visit, CableServer], rounds: int) -> None:
    for visit, server in servers.items():
        for _ in range(rounds):
            visit(server)


@pytest.mark.parametrize("visit", VARIANTS, ids=lambda visit: visit.__name__)
def test_nothing_is_left_of_clients_that_have_gone(
    visit: Visit, held: dict[Visit, tuple[Allocations, Allocations]]
) -> None:
    assert left(*held[visit]) == {}
