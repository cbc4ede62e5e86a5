"""Records what two real nodes send to each other and store, on Redis and on NATS: ``python -m tests.cluster.record_wire``.

Writes tests/cluster/wire/<version>/{redis,nats}.json, with equal ids and times in each recording; ``docs/versions.md`` says
when. A message with the fields of earlier ones is left out.
"""

import asyncio
import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from typing import Any

import nats
import redis
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from catenary.adapters.nats.subjects import token
from tests.parts.cable_client import CableClient, identifier
from tests.parts.cluster import started
from tests.parts.long_polling import Poller, subscribe
from tests.parts.nats_node import jetstream_server
from tests.parts.redis import redis_server
from tests.parts.server import CableServer
from tests.parts.tokens import SECRET
from tests.parts.tokens import token as signed
from tests.parts.wire_values import MS, fields, readable

Recording = dict[str, Any]
VERSION = "0.1"
_HEX_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
FOLDER = Path(__file__).parent / "wire"
PUSHER_APP = {
    "id": "app",
    "key": "key",
    "secret": "hidden",
    # Only with webhooks do nodes count occupied channels; nothing listens there.
    "webhooks": [{"url": "http://127.0.0.1:9"}],
}
FLAGS = (
    *("--public", "--norpc", "--broadcast_adapter=http", "--history_limit=100", "--poll"),
    *("--sessions_ttl=60", "--presence_ttl=60", f"--jwt_secret={SECRET}"),
    "--pusher_apps=" + json.dumps([PUSHER_APP]),
)
ALICE = '{"user":"alice"}'
ROOM = identifier("$pubsub", stream_name="room")
LOBBY = identifier("$pubsub", stream_name="lobby")
PUSHER_CHANNEL = "lobby"
COUNTED = f"\0counted:pusher:app:{PUSHER_CHANNEL}"
"""The stream whose members have the numbers of subscribers; it follows within a second."""


class Ids:
    """Those of one run, each replaced by one of the same length, also where a subject of NATS has it in base64."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}
        self._letters = iter("qrstuvwxyz")

    def name(self, found: str, letter: str) -> None:
        """Replaces an id by one of a single letter; the colon before a port stays."""
        start = ":" if found.startswith(":") else ""
        name = start + letter * (len(found) - len(start))
        if found and found != name:
            self._known.setdefault(found.encode(), name.encode())
            self._known.setdefault(token(found).encode(), token(name).encode())

    def name_others(self, raw: bytes) -> None:
        """The ids under which nodes are members, which they tell nobody else."""
        for found in _HEX_ID.findall(self.replaced(raw)):
            if len(set(found)) > 1:
                self.name(found.decode(), next(self._letters))

    def replaced(self, raw: bytes) -> bytes:
        for found, name in self._known.items():
            raw = raw.replace(found, name)
        return raw

    def readable(self, raw: bytes) -> Any:
        return _anonymous(readable(self.replaced(raw)))

    def text(self, raw: bytes) -> str:
        """A name of a key, a channel or a subject."""
        found = self.readable(raw)
        assert isinstance(found, str)
        return found


def _anonymous(value: Any) -> Any:
    """Without the machine's name and process, and with a few of the figures, to which versions add others."""
    match value:
        case {"cluster": ["here", node, [_, name, _, _, *entry], *others]}:
            return {"cluster": ["here", node, [node, name, "host", 1, *entry], *others]}
        case {
            "cluster": ["part", node, number, {"bytes": {"msgpack": {"figures": _, "largest": _}}}]
        }:
            stats = {"figures": {"clients_num": 0}, "largest": ["process_start_time_seconds"]}
            return {"cluster": ["part", node, number, {"bytes": {"msgpack": stats}}]}
    return value


def _raw(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _each(ids: Ids, value: Any) -> Any:
    match value:
        case bytes():
            return ids.readable(value)
        case str():
            return ids.readable(value.encode())
        case dict():
            return {ids.text(_raw(key)): _each(ids, each) for key, each in sorted(value.items())}
    return [_each(ids, each) for each in value]


class Messages:
    """What was sent, with the channel or the subject, and the headers on NATS."""

    def __init__(self) -> None:
        self.raw: list[tuple[bytes, bytes, dict[str, str]]] = []

    def add(self, place: bytes, payload: bytes, headers: dict[str, str] | None = None) -> None:
        self.raw.append((place, payload, headers or {}))

    def kinds(self, ids: Ids) -> list[dict[str, Any]]:
        """Of several with the same fields, the first."""
        found: list[dict[str, Any]] = []
        known: set[str] = set()
        for place, payload, headers in self.raw:
            message = {"to": ids.text(place), "data": ids.readable(payload)}
            if headers:
                message["headers"] = _each(ids, headers)
            new = fields_of_message(message)
            if not new <= known:
                known |= new
                found.append(message)
        return sorted(found, key=json.dumps)


def fields_of_message(message: dict[str, Any]) -> set[str]:
    found = fields(f"to {message['to']}", message["data"])
    return found | fields(f"to {message['to']} headers", message.get("headers", {}))


def fields_of(recording: Recording) -> set[str]:
    """Everything that is in a recording, without its values."""
    found = set().union(*map(fields_of_message, recording["messages"]))
    for key, stored in recording.get("keys", {}).items():
        found |= fields(f"key {key} ({stored['type']})", stored["value"])
    for name, stream in recording.get("streams", {}).items():
        config = stream["config"]
        found |= {f"stream {name}: {config['subjects']} {config.get('republish')}"}
        found |= set().union(
            *(fields(f"stored {each['subject']}", each["data"]) for each in stream["messages"])
        )
    return found


def asked(node: CableServer, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.port}{path}", timeout=10) as answer:
        return json.load(answer)


def posted(url: str, body: object, method: str = "POST") -> None:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
    )
    urllib.request.urlopen(request, timeout=10).close()


def live(nodes: list[CableServer], ids: Ids, stack: ExitStack, *, has_durable: bool) -> None:
    """What clients and publishers do while it is recorded. Returns with clients that are connected."""
    here, there = nodes
    for each in asked(here, "/api/nodes")["nodes"]:
        ids.name(each["node"], "a" if each["self"] else "b")
    for node, digit in zip(nodes, "12", strict=True):
        ids.name(f":{node.port}", digit)

    def client(node: CableServer, query: str = "") -> tuple[CableClient, str]:
        opened = stack.enter_context(
            CableClient(node.cable_url + query, subprotocols=("actioncable-v1-ext-json",))
        )
        sid = opened.receive()["sid"]
        ids.name(sid, next(letters))
        return opened, sid

    def broadcast(**publication: object) -> None:
        posted(here.broadcast_url, publication)

    letters = iter("cdefghijk")
    alice, alice_sid = client(here, "?jid=" + signed({"ext": ALICE, "exp": MS // 1000}))
    alice.subscribe(ROOM)
    alice.send("join", identifier=ROOM, presence={"id": "alice", "info": {"name": "Alice"}})
    bob, bob_sid = client(there)
    bob.subscribe(ROOM)
    bob.send("join", identifier=ROOM, presence={"id": "bob", "info": {"name": "Bob"}})
    until(lambda: asked(here, "/api/presence/room/users")["total"] == 2)
    broadcast(stream="room", data='{"text":"é"}')
    broadcast(stream="room", data='{"text":"not to Alice"}', meta={"exclude_socket": alice_sid})
    broadcast(stream="room", data='{"text":"not kept"}', meta={"transient": True})
    while alice.receive().get("message") != {"text": "not kept"}:
        pass
    pusher = stack.enter_context(
        CableClient(f"ws://127.0.0.1:{here.port}/app/key?protocol=7", subprotocols=())
    )
    socket_id = json.loads(pusher.receive()["data"])["socket_id"]
    ids.name(socket_id, "9")
    pusher.send_raw(json.dumps({"event": "pusher:subscribe", "data": {"channel": PUSHER_CHANNEL}}))
    pusher.receive()
    poller = Poller(here.port)
    ids.name(poller.post(subscribe("polled")).messages[0]["sid"], next(letters))
    broadcast(stream="polled", data="1")
    assert poller.post(port=there.port).status == 200
    ids.name(poller.poll_id.partition(".")[2], "p")
    if has_durable:
        url = f"http://127.0.0.1:{here.port}/ds/journal"
        posted(url, [], "PUT")
        posted(url, [{"entry": 1}])
    for path in (
        "connections",
        "connections/count",
        f"connections/{bob_sid}",
        "streams",
        "channels",
    ):
        asked(here, f"/api/{path}")
    posted(
        f"http://127.0.0.1:{here.port}/api/connections/{bob_sid}/subscriptions",
        {"identifier": LOBBY},
    )
    payload = {"identifier": '{"user":"mallory"}', "reconnect": False}
    broadcast(command="disconnect", payload=payload)
    # An event of the other node arrives after the remote disconnect, which the sessions name then.
    with urllib.request.urlopen(f"http://127.0.0.1:{here.port}/api/events", timeout=10) as events:
        events.readline()
        bob.send("unsubscribe", identifier=LOBBY)
        while b"lobby" not in events.readline():
            pass
    # Without a close frame: the session can be resumed.
    alice.connection.socket.shutdown(socket.SHUT_RDWR)
    until(lambda: asked(here, "/api/connections/count")["count"] < 4)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Redis


def record_redis() -> Recording:
    """Messages by channel; each key with its value, as its type reads it."""
    ids, messages = Ids(), Messages()
    with redis_server() as server, ExitStack() as stack:
        flags = (*FLAGS, "--ds", "--ds_write", "--broker=redis", f"--redis_url={server.url}")
        connection = stack.enter_context(redis.Redis(port=server.port))
        ids.name(connection.info("server")["run_id"], "f")
        listener = stack.enter_context(connection.pubsub())
        listener.psubscribe("*")
        listener.get_message(timeout=5)
        nodes = started(stack, [flags, flags])
        live(nodes, ids, stack, has_durable=True)
        until(lambda: any(connection.scan_iter(f"*:presence:on:{COUNTED}")))
        keys = {key: _stored_in_redis(connection, key) for key in connection.scan_iter("*")}
        for node in nodes:
            node.stop()
        while (found := listener.get_message(timeout=0.2)) is not None:
            messages.add(found["channel"], found["data"])
    for kind, value in keys.values():
        if kind == "hash":
            ids.name(value.get(b"epoch", b"").decode(), "0")
            for field in sorted(value):
                ids.name_others(field)
    return {
        "keys": {
            ids.text(key): {"type": kind, "value": _each(ids, value)}
            for key, (kind, value) in sorted(keys.items())
        },
        "messages": messages.kinds(ids),
    }


def _stored_in_redis(connection: Any, key: bytes) -> tuple[str, Any]:
    """The type and the value of a key. (redis-py types its replies as those of all its modes.)"""
    kind: str = connection.type(key).decode()
    match kind:
        case "string":
            return kind, connection.get(key)
        case "hash":
            return kind, connection.hgetall(key)
        case "zset":
            scores = connection.zrange(key, 0, -1, withscores=True)
            return kind, {member: str(int(score)).encode() for member, score in scores}
        case "stream":
            return kind, dict(connection.xrange(key))
    raise ValueError(f"expected a type that Catenary uses, got {kind} at {key!r}")


# NATS


def record_nats() -> Recording:
    """Messages by subject; the streams of JetStream, each with its configuration and messages."""
    ids, messages = Ids(), Messages()
    with jetstream_server() as server, ExitStack() as stack:
        return asyncio.run(_record_nats(server.url, ids, messages, stack))


async def _record_nats(url: str, ids: Ids, messages: Messages, stack: ExitStack) -> Recording:
    async def hear(message: Msg) -> None:
        messages.add(message.subject.encode(), message.data, message.headers)

    client = await nats.connect(url)
    try:
        await client.subscribe("__anycable_internal__.>", cb=hear)
        await client.flush()
        flags = (*FLAGS, "--broker=nats", f"--nats_servers={url}")
        nodes = await asyncio.to_thread(started, stack, [flags, flags])
        await asyncio.to_thread(live, nodes, ids, stack, has_durable=False)
        counted = token(COUNTED).encode()
        await asyncio.to_thread(until, lambda: any(counted in each[0] for each in messages.raw))
        found = {name: await _stored_in_nats(client, name) for name in await _streams(client)}
        for node in nodes:
            await asyncio.to_thread(node.stop)
        await client.flush()
    finally:
        await client.close()
    for config, stored in found.values():
        ids.name(config["metadata"]["catenary.epoch"], "e")
        config["metadata"] = {"catenary.epoch": config["metadata"]["catenary.epoch"]}
        for _, data in sorted(stored):
            ids.name_others(data)
    return {
        "streams": {
            name: {
                "config": json.loads(ids.replaced(json.dumps(config).encode())),
                "messages": [
                    {"subject": ids.text(subject), "data": ids.readable(data)}
                    for subject, data in sorted(stored, key=itemgetter(0))
                ],
            }
            for name, (config, stored) in sorted(found.items())
        },
        "messages": messages.kinds(ids),
    }


async def _streams(client: Client) -> list[str]:
    return [str(each.config.name) for each in await client.jetstream().streams_info()]


async def _stored_in_nats(client: Client, name: str) -> tuple[Any, list[tuple[bytes, bytes]]]:
    answer = await client.request(f"$JS.API.STREAM.INFO.{name}", b"")
    found = json.loads(answer.data)
    stored = []
    for sequence in range(found["state"]["first_seq"], found["state"]["last_seq"] + 1):
        try:
            message = await client.jetstream().get_msg(name, sequence)
        except NotFoundError:
            continue
        stored.append((str(message.subject).encode(), message.data or b""))
    return found["config"], stored


RECORDERS: dict[str, Callable[[], Recording]] = {"redis": record_redis, "nats": record_nats}


def recorded(version: str, engine: str) -> Recording:
    """A committed recording."""
    found: Recording = json.loads((FOLDER / version / f"{engine}.json").read_text())
    return found


def main() -> None:
    folder = FOLDER / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    for engine, record in RECORDERS.items():
        text = json.dumps(record(), indent=2, ensure_ascii=False)
        (folder / f"{engine}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
