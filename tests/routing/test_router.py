"""Routing of decisions: by the name of the channel, else to the application."""

import asyncio
import json
from collections.abc import Awaitable

import pytest

from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment, Ingress
from catenary.messages.names import Identifier, Sid
from catenary.routing.identity import everybody
from catenary.routing.router import Router, channel_name
from tests.parts.heart import PreparedApplication, room

CLIENT = Environment(Sid("s"), "ws://test/", {})


def test_the_application_of_a_realm_decides_everything_about_its_clients() -> None:
    """Neither the channels and tokens of other clients, nor the application."""
    own, channel, default = PreparedApplication(), PreparedApplication(), PreparedApplication()
    router = Router(
        default, channels={"Room": channel}, identify=(everybody,), realms={"pusher:1": own}
    )
    client = Environment(Sid("s"), "ws://test/", {}, ingress=Ingress(realm="pusher:1"))
    router.connect(client)
    router.subscribe(client, room("1"))
    router.perform(client, room("1"), "{}")
    router.unsubscribe(client, room("1"))
    asyncio.run(_disconnect(router, client))
    assert [call[0] for call in own.calls] == [
        *("connect", "subscribe", "perform", "unsubscribe", "disconnect")
    ]
    assert default.calls == channel.calls == []


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ('{"channel":"Chat"}', "Chat"),
        ('{"room":{"channel":"no"},"channel":"Chat"}', "Chat"),
        ('{"channel":"$pubsub","stream_name":"a"}', "$pubsub"),
        ('{"channel":"Ch\\u0061t"}', "Chat"),
        ('{"channel":""}', ""),
        ('{"channel":7}', None),
        ('{"room":1}', None),
        ('["channel"]', None),
        ('"channel"', None),
        ("chat", None),
        ("", None),
        ('{"channel":"Chat","x":' + "[" * 300_000 + "]" * 300_000 + "}", None),
    ],
)
def test_channel_name(identifier: str, name: str | None) -> None:
    assert channel_name(Identifier(identifier)) == name


def test_a_channel_with_a_name_decides_itself_and_the_application_everything_else() -> None:
    special, default = PreparedApplication(), PreparedApplication()
    router = Router(default, channels={"Room": special}, identify=())
    router.subscribe(CLIENT, room("1"))
    router.perform(CLIENT, room("1"), "{}")
    router.unsubscribe(CLIENT, room("1"))
    assert [call[0] for call in special.calls] == ["subscribe", "perform", "unsubscribe"]
    assert default.calls == []

    other = Identifier('{"channel":"Other","room":"1"}')
    garbage = Identifier("garbage")
    router.subscribe(CLIENT, other)
    router.perform(CLIENT, garbage, "{}")
    router.unsubscribe(CLIENT, other)
    asyncio.run(_disconnect(router))
    assert default.calls == [
        ("subscribe", other),
        ("perform", garbage, "{}"),
        ("unsubscribe", other),
        ("disconnect", "s"),
    ]


async def _disconnect(router: Router, client: Environment = CLIENT) -> None:
    await router.disconnect(client, ())


def test_the_first_identification_with_a_decision_decides_about_a_connection() -> None:
    default = PreparedApplication()
    no = Decision(verdict=Verdict.FAILURE)

    def nobody(environment: Environment) -> Decision | None:
        return no if environment.url == "ws://test/nobody" else None

    router = Router(default, channels={}, identify=(nobody, everybody))
    assert router.connect(Environment(Sid("s"), "ws://test/nobody", {})) is no
    assert router.connect(CLIENT) == everybody(CLIENT)
    assert default.calls == []


def test_an_opinion_may_take_time() -> None:
    async def later() -> Decision:
        return Decision(identifiers="later")

    default = PreparedApplication()
    answer = Router(default, channels={}, identify=[lambda environment: later()]).connect(CLIENT)
    assert not isinstance(answer, Decision)
    assert asyncio.run(_awaited(answer)).identifiers == "later"
    assert default.calls == []


async def _awaited(answer: Awaitable[Decision]) -> Decision:
    return await answer


def test_without_an_opinion_the_application_decides() -> None:
    default = PreparedApplication()
    router = Router(default, channels={}, identify=[lambda environment: None])
    decision = router.connect(CLIENT)
    assert isinstance(decision, Decision)
    assert json.loads(decision.identifiers) == {"sid": "s"}
    assert default.calls == [("connect", "s")]
