"""Hub and node against a model that consists of sets: any events, in any order."""

import asyncio
import json
from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from catenary.adapters.interest import StreamInterest
from catenary.messages.decisions import Decision
from catenary.messages.names import Stream
from tests.parts.heart import Client, Heart, confirming, room, settle

NAMES = st.sampled_from(["1", "2"])
STREAMS = st.sampled_from(["1", "shared"])


class NodeAgainstModel(RuleBasedStateMachine):
    """``listening`` maps (client, room) to streams; ``expected`` is what each client must have heard."""

    clients = Bundle("clients")

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.interest = StreamInterest()
        self.heart = self.runner.run(self._build())
        self.listening: dict[tuple[Client, str], set[str]] = {}
        self.expected: dict[Client, list[tuple[str, int]]] = defaultdict(list)
        self.here: set[Client] = set()
        self.ended: dict[str, set[str]] = {}
        self.published = 0

    async def _build(self) -> Heart:
        return Heart(interest=self.interest)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self._leave_all())
            self.runner.close()

    async def _leave_all(self) -> None:
        for client in list(self.here):
            self._left(client)
        await self.heart.disconnector.drain(1)
        told = {environment.sid: set(ids) for environment, ids in self.heart.application.ended}
        assert len(self.heart.application.ended) == len(told), "one Disconnect for each"
        assert told == self.ended
        assert self.heart.hub.streams_num == self.heart.hub.sessions.identifiers_num == 0

    def _left(self, client: Client) -> None:
        self.here.discard(client)
        subscriptions = [name for owner, name in self.listening if owner is client]
        self.ended[client.session.sid] = {room(name) for name in subscriptions}
        for name in subscriptions:
            del self.listening[client, name]
        client.leave()

    async def _do(self, client: Client, command: str, name: str, **fields: object) -> None:
        client.say(command, room(name), **fields)
        await settle(4)

    @rule(target=clients)
    def connect(self) -> Client:
        client = self.runner.run(self._connect())
        self.here.add(client)
        return client

    async def _connect(self) -> Client:
        return self.heart.member()

    @rule(client=clients, name=NAMES, streams=st.sets(STREAMS), is_slow=st.booleans())
    def subscribe(self, client: Client, name: str, streams: set[str], is_slow: bool) -> None:
        self.runner.run(self._subscribe(client, name, sorted(streams), is_slow))
        if client in self.here:
            self.listening.setdefault((client, name), streams)

    async def _subscribe(
        self, client: Client, name: str, streams: list[str], is_slow: bool
    ) -> None:
        if client not in self.here or (client, name) in self.listening:
            await self._do(client, "subscribe", name)
            return
        decision = Decision(
            streams=tuple(map(Stream, streams)), replies=confirming(room(name)).replies
        )
        if is_slow:
            later = self.heart.application.later("subscribe")
            asyncio.get_running_loop().call_soon(later.set_result, decision)
        else:
            self.heart.application.prepare("subscribe", decision)
        await self._do(client, "subscribe", name)

    @rule(client=clients, name=NAMES)
    def unsubscribe(self, client: Client, name: str) -> None:
        self.runner.run(self._do(client, "unsubscribe", name))
        self.listening.pop((client, name), None)

    @rule(
        client=clients,
        name=NAMES,
        start=st.sets(STREAMS),
        stop=st.sets(STREAMS),
        stop_all=st.booleans(),
    )
    def perform(
        self, client: Client, name: str, start: set[str], stop: set[str], stop_all: bool
    ) -> None:
        streams = self.listening.get((client, name))
        if streams is not None:
            decision = Decision(
                streams=tuple(map(Stream, sorted(start))),
                stopped_streams=tuple(map(Stream, sorted(stop))),
                stop_all_streams=stop_all,
            )
            self.heart.application.prepare("perform", decision)
            self.listening[client, name] = (set() if stop_all else streams - stop) | start
        self.runner.run(self._do(client, "message", name, data="{}"))

    @rule(stream=STREAMS, author=st.none() | clients)
    def publish(self, stream: str, author: Client | None) -> None:
        self.published += 1
        for (client, name), streams in self.listening.items():
            if stream in streams and client is not author:
                self.expected[client].append((room(name), self.published))
        self.runner.run(self._publish(stream, self.published, author))

    async def _publish(self, stream: str, message: int, author: Client | None) -> None:
        sid = None if author is None else author.session.sid
        meta = {"exclude_socket": sid} if sid else {}
        publication = {"stream": stream, "data": json.dumps(message), "meta": meta}
        self.heart.node.publications.publish(json.dumps(publication))
        await settle(4)

    @rule(target=clients, client=consumes(clients), is_asked_to=st.booleans())
    def leave(self, client: Client, is_asked_to: bool) -> object:
        if client in self.here:
            self.runner.run(self._leave(client, is_asked_to))
        return multiple()

    async def _leave(self, client: Client, is_asked_to: bool) -> None:
        if is_asked_to:
            identifiers = client.session.environment.identifiers
            payload = {"identifier": identifiers, "reconnect": False}
            self.heart.node.publications.publish(
                json.dumps({"command": "disconnect", "payload": payload})
            )
            assert client.outbound.goodbye is not None
        self._left(client)
        await settle(4)

    @invariant()
    def everybody_heard_what_the_model_says(self) -> None:
        if not hasattr(self, "heart"):
            return
        for client in self.here:
            heard = [
                (each["identifier"], each["message"]) for each in client.heard if "message" in each
            ]
            # The order among a client's own subscriptions is nobody's promise.
            assert sorted(heard) == sorted(self.expected[client])
            assert [m for _, m in heard] == sorted(m for _, m in heard)

    @invariant()
    def the_hub_keeps_no_more_than_the_model(self) -> None:
        if hasattr(self, "heart"):
            streams = set().union(*self.listening.values()) if self.listening else set()
            assert self.heart.hub.streams_num == len(streams)
            assert set(self.interest.cursors) == streams
            assert self.heart.counters.clients_num == len(self.here)


TestNodeAgainstModel = NodeAgainstModel.TestCase
TestNodeAgainstModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
