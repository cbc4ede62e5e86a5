"""What a server builds for Pusher's API and webhooks, and what it does not build without apps."""

import json

import pytest

from catenary.config.effective import effective
from catenary.errors import ConfigError
from catenary.messages.names import Stream
from catenary.node.hub import Hub
from catenary.node.occupancy import Occupancy
from catenary.server.build import ServerBuild
from catenary.server.engines import build_engine, build_nats
from catenary.server.pusher_api import PusherState
from tests.config.sources import options
from tests.parts.heart import in_loop

WEBHOOKS = [{"url": "http://127.0.0.1:9/hook"}]


def apps(**more: object) -> str:
    return f"--pusher_apps={json.dumps([{'id': 'a', 'key': 'k', 'secret': 's', **more}])}"


def built(*flags: str) -> tuple[PusherState, Occupancy | None]:
    build = ServerBuild(effective(options(*flags)))
    engine = build_engine(build, build_nats(build))
    state = PusherState(build, engine)
    hub = Hub(build.counters, lambda *_: None, state.interest)
    occupancy = state.occupancy(build, hub, engine.pubsub(build, hub, build.restore))
    assert (state.interest is engine.interest) == (occupancy is None)
    assert (build.observers.whispered is None) == (not any(app.webhooks for app in state.apps))
    return state, occupancy


@in_loop
async def test_without_apps_nothing_is_observed() -> None:
    _, occupancy = built("--norpc")
    assert occupancy is None


@in_loop
async def test_webhooks_observe_clients_only_where_an_app_has_some() -> None:
    for more in ({}, {"webhooks": WEBHOOKS}):
        _, occupancy = built("--norpc", apps(**more))
        assert occupancy is not None


@in_loop
async def test_streams_of_channels_are_covered_and_no_others() -> None:
    state, _ = built("--norpc", "--pusher_app_id=main", "--pusher_app_key=key", apps())
    covers = state.webhooks.covers
    for stream in ("news", "presence-a@b", "pusher:a:news"):
        assert covers(Stream(stream)), stream
    for stream in (
        "",
        "chat/42",
        "pusher:b:news",
        "#server-to-user-1",
        "\0occupied:news",
        "x" * 201,
    ):
        assert not covers(Stream(stream)), stream


@in_loop
async def test_webhooks_of_several_nodes_need_a_broker() -> None:
    with pytest.raises(ConfigError, match="expected a broker"):
        built("--norpc", "--pubsub=redis", apps(webhooks=WEBHOOKS))
    built("--norpc", "--pubsub=redis", apps())
