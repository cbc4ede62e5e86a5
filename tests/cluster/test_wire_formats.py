"""Recordings of what nodes send and store: the present code reads those of earlier versions, and writes the same fields.

During an upgrade nodes of two versions work side by side (docs/versions.md), and read what the others have stored.
"""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import msgspec
import nats
import pytest
import redis
from nats.aio.client import Client

from catenary.adapters.packing import NumberedCommand, unpack_command
from catenary.adapters.redis.names import RedisNames
from catenary.api import cluster_answers as api
from catenary.api import trace_sources
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Position, Publication, RemoteDisconnect
from catenary.node import snapshot
from catenary.node.administration import Outcome
from catenary.node.listing import SessionDetails, SessionPage
from catenary.protocols import cluster_messages, relayed_polls
from catenary.protocols.durable_stream_writes import record_of
from tests.cluster.record_wire import (
    ALICE,
    LOBBY,
    RECORDERS,
    ROOM,
    VERSION,
    Recording,
    fields_of,
    recorded,
)
from tests.parts.nats_node import NatsNode, jetstream_server
from tests.parts.redis import redis_server
from tests.parts.redis_node import RedisNode, until
from tests.parts.wire_values import MS, raw

READ = ("0.1",)
"""The minor versions whose nodes may run beside this one, or have stored what it finds."""

CHANNEL = "__anycable_internal__"
ALICE_SID = Sid("c" * 22)
BOB_SID = Sid("d" * 22)
ROOM_STREAM = Stream("room")
TEXT = Publication(ROOM_STREAM, '{"text":"é"}')
NOT_TO_ALICE = Publication(ROOM_STREAM, '{"text":"not to Alice"}', ALICE_SID)
NOT_KEPT = Publication(ROOM_STREAM, '{"text":"not kept"}', transient=True)
JOINED = '{"type":"join","id":"alice","info":{"name":"Alice"}}'
DISCONNECT = RemoteDisconnect('{"user":"mallory"}', reconnect=False)
MEMBERS = (Member("alice", '{"name":"Alice"}'), Member("bob", '{"name":"Bob"}'))

RECORD_AGAIN = (
    f"this version sends or stores other fields than {VERSION}. If that is deliberate, see 'Change a wire format' in"
    " docs/versions.md, and record again: python -m tests.cluster.record_wire."
)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def unplaced(publications: tuple[Publication, ...]) -> list[Publication]:
    """Without positions."""
    return [msgspec.structs.replace(each, position=None) for each in publications]


def sent(recording: Recording, place: str) -> list[tuple[bytes, bytes]]:
    """The messages to channels or subjects that begin so."""
    return [
        (each["to"].encode(), raw(each["data"]))
        for each in recording["messages"]
        if each["to"].startswith(place)
    ]


def check_session(stored: bytes | None) -> None:
    session = snapshot.read(stored)
    assert session is not None
    assert session.environment.sid == ALICE_SID
    assert session.environment.identifiers == ALICE
    assert session.subscriptions == {ROOM: snapshot.Subscribed(("room",), "room", "room")}  # type: ignore[arg-type]
    assert session.expires_at == MS // 1000
    assert session.revision >= MS


# Redis


def store_in_redis(connection: "redis.Redis", recording: Recording) -> None:
    for key, stored in recording["keys"].items():
        value = stored["value"]
        match stored["type"]:
            case "string":
                connection.set(key, raw(value))
            case "hash":
                connection.hset(key, mapping={name: raw(each) for name, each in value.items()})
            case "zset":
                connection.zadd(key, {name: float(each) for name, each in value.items()})
            case "stream":
                for number, entry in value.items():
                    connection.xadd(
                        key, {name: raw(each) for name, each in entry.items()}, id=number
                    )


@pytest.mark.parametrize("version", READ)
def test_what_nodes_have_stored_in_redis_and_send_through_it(version: str) -> None:
    recording = recorded(version, "redis")

    async def scenario(url: str) -> None:
        node = RedisNode(server, names=RedisNames(f"catenary:{CHANNEL}", CHANNEL))
        await node.start()
        try:
            await node.is_up()
            await check_stored(node)
            await node.listen([ROOM_STREAM])
            for channel, payload in sent(recording, CHANNEL):
                # The next ones after those that are stored
                following = {b"00000000 1 ": b"00000000 3 ", b"00000000 2 ": b"00000000 4 "}
                start = payload[:11]
                connection.publish(channel, following.get(start, start) + payload[11:])
            await until(lambda: {TEXT, NOT_TO_ALICE} <= set(unplaced_heard(node)))
            heard = unplaced_heard(node)
            assert any(each.data in (JOINED, NOT_KEPT.data) for each in heard)
        finally:
            await node.close()

    async def check_stored(node: RedisNode) -> None:
        kept = await node.history.after(ROOM_STREAM, Position("0" * 8, 0))
        assert unplaced(kept) == [TEXT, NOT_TO_ALICE]
        assert [each.position for each in kept] == [Position("0" * 8, 1), Position("0" * 8, 2)]
        assert unplaced(await node.history.since(ROOM_STREAM, 0)) == [TEXT, NOT_TO_ALICE]
        assert await node.history.newest([ROOM_STREAM], begin=False) == {
            ROOM_STREAM: kept[1].position
        }
        assert await node.presence.members(ROOM_STREAM) == MEMBERS
        assert await node.presence.streams(BOB_SID) == (ROOM_STREAM,)
        occupied = Stream("\0occupied:pusher:app:lobby")
        assert await node.presence.members(occupied) == (Member("node", "null"),)
        (counted,) = await node.presence.members(Stream("\0counted:pusher:app:lobby"))
        assert counted.info == "1"
        missed = await node.sessions.missed(is_first=True)
        assert missed == [NumberedCommand(DISCONNECT, MS)]
        check_session(await node.sessions.take(ALICE_SID))
        assert node.engine.stream_records is not None
        record = record_of(await node.engine.stream_records.read(Stream("journal")))
        assert record is not None
        assert (record.content_type, record.is_closed) == ("application/json", False)
        (entry,) = await node.history.since(Stream("journal"), 0)
        assert json.loads(entry.data) == {"entry": 1}

    def unplaced_heard(node: RedisNode) -> list[Publication]:
        return unplaced(tuple(node.heard(ROOM_STREAM)))

    # It is known by its number once it was read.
    ((_, command),) = (each for each in sent(recording, CHANNEL) if each[0] == CHANNEL.encode())
    assert unpack_command(command) == NumberedCommand(DISCONNECT, MS)
    with redis_server() as server, redis.Redis(port=server.port) as connection:
        store_in_redis(connection, recording)
        run(scenario(server.url))


# NATS


@pytest.mark.parametrize("version", READ)
def test_what_nodes_have_stored_in_jetstream_and_send_through_nats(version: str) -> None:
    recording = recorded(version, "nats")

    async def scenario(url: str) -> None:
        client = await nats.connect(url)
        try:
            for stream in recording["streams"].values():
                name = stream["config"]["name"]
                made = await client.request(
                    f"$JS.API.STREAM.CREATE.{name}", json.dumps(stream["config"]).encode()
                )
                assert "error" not in json.loads(made.data)
                for message in stream["messages"]:
                    await client.jetstream().publish(message["subject"], raw(message["data"]))
            node = NatsNode(server, prefix=CHANNEL)
            await node.start()
            try:
                await node.is_up()
                await check_stored(node)
                await check_sent(node, client)
            finally:
                await node.close()
        finally:
            await client.close()

    async def check_stored(node: NatsNode) -> None:
        kept = await node.history.since(ROOM_STREAM, 0)
        assert unplaced(kept) == [TEXT, NOT_TO_ALICE]
        assert kept[0].position == Position("e" * 8, 2)
        assert set(await node.presence.members(ROOM_STREAM)) == set(MEMBERS)
        assert await node.presence.streams(BOB_SID) == (ROOM_STREAM,)
        occupied = Stream("\0occupied:pusher:app:lobby")
        assert await node.presence.members(occupied) == (Member("node", "null"),)
        (counted,) = await node.presence.members(Stream("\0counted:pusher:app:lobby"))
        assert counted.info == "1"
        missed = await node.sessions.missed(0, is_first=True)
        assert [each.command for each in missed] == [DISCONNECT]
        check_session(await node.sessions.take(ALICE_SID))

    async def check_sent(node: NatsNode, client: Client) -> None:
        await node.listen([ROOM_STREAM])
        for place in (f"{CHANNEL}.c", f"{CHANNEL}.p.0.", f"{CHANNEL}.h."):
            messages = sent(recording, place)
            assert messages
            for subject, payload in messages:
                await client.publish(subject.decode(), payload)
        await until(
            lambda: {TEXT, NOT_TO_ALICE} <= set(heard(node)) and DISCONNECT in node.received
        )
        assert any(each.data in (JOINED, NOT_KEPT.data) for each in heard(node))

    def heard(node: NatsNode) -> list[Publication]:
        return unplaced(tuple(node.heard(ROOM_STREAM)))

    with jetstream_server() as server:
        run(scenario(server.url))


# Messages of nodes to each other

QUESTIONS: dict[str, tuple[type, Any]] = {
    api.SESSIONS: (api.SessionsQuestion, SessionPage),
    api.COUNT: (api.CountQuestion, int),
    api.SESSION: (api.SessionQuestion, bytes),
    api.ACT: (api.ActQuestion, Outcome | None),
    api.STREAMS: (api.StreamsQuestion, api.StreamsAnswer),
    api.CHANNELS: (api.Nothing, dict[str, int]),
    api.STATS: (api.Nothing, api.Stats),
    trace_sources.FOLLOW: (trace_sources.Lease, None),
}
"""The types of questions and answers. The answer to a lease is empty."""


@pytest.mark.parametrize("version", READ)
@pytest.mark.parametrize("engine", list(RECORDERS))
def test_what_nodes_send_to_each_other(version: str, engine: str) -> None:
    recording = recorded(version, engine)
    places = {"redis": f"{CHANNEL}#to", "nats": f"{CHANNEL}.o."}
    others = {"redis": f"{CHANNEL}#to-all", "nats": f"{CHANNEL}.a"}
    payloads = [payload for _, payload in sent(recording, places[engine])]
    payloads += [payload for _, payload in sent(recording, others[engine])]
    polls = [relayed_polls.unpack(each) for each in payloads if each[:1] != b"\xc1"]
    assert {type(each).__name__ for each in polls} >= {"Relayed", "Confirmed", "Part", "Answered"}
    (relayed,) = (each for each in polls if isinstance(each, relayed_polls.Relayed))
    assert relayed.poll_id == "a" * 16 + "." + "p" * 32

    messages = [cluster_messages.unpack(each[1:]) for each in payloads if each[:1] == b"\xc1"]
    announced = [each for each in messages if isinstance(each, cluster_messages.Announced)]
    assert all(each.entry.host == "host" and each.interval_s == 3 for each in announced)
    assert any(isinstance(each, cluster_messages.Left) for each in messages)
    asked = {each.number: each for each in messages if isinstance(each, cluster_messages.Asked)}
    assert {each.kind for each in asked.values()} == set(QUESTIONS)
    questions: dict[str, Any] = {
        each.kind: msgspec.msgpack.decode(each.body, type=QUESTIONS[each.kind][0])
        for each in asked.values()
    }
    assert questions[api.SESSION] == api.SessionQuestion(BOB_SID)
    assert questions[api.ACT] == api.ActQuestion("subscribe", BOB_SID, LOBBY)
    answers: dict[str, Any] = {
        asked[each.number].kind: msgspec.msgpack.decode(
            each.body, type=QUESTIONS[asked[each.number].kind][1]
        )
        for each in messages
        if isinstance(each, cluster_messages.Part)
    }
    assert answers[api.STREAMS].streams[0].stream == ROOM_STREAM
    assert answers[api.CHANNELS] == {"$pubsub": 1}
    assert msgspec.json.decode(answers[api.SESSION], type=SessionDetails).sid == BOB_SID
    assert all(each.error == "" for each in messages if isinstance(each, cluster_messages.Answered))
    of_events = {
        each.kind: each.body for each in messages if isinstance(each, cluster_messages.Sent)
    }
    assert trace_sources.read_lease(of_events[trace_sources.END]).node == "a" * 16
    assert trace_sources.read_events(of_events[trace_sources.EVENTS]).reader == 1


@pytest.mark.parametrize("engine", list(RECORDERS))
def test_this_version_sends_and_stores_what_the_last_recording_has(engine: str) -> None:
    known, found = fields_of(recorded(VERSION, engine)), fields_of(RECORDERS[engine]())
    difference = sorted(
        {f"+ {each}" for each in found - known} | {f"- {each}" for each in known - found}
    )
    if difference:
        pytest.fail("\n".join((RECORD_AGAIN, *difference)), pytrace=False)
