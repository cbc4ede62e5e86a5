"""Pusher's server side: the HTTP API of its apps, their webhooks, and the occupancy of channels that both need.

Knows: options, the Pusher modules of every room, the engine. Does not know: the protocol of clients.
"""

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from starlette.routing import Route

from catenary.adapters.memory.presence import LocalPresence
from catenary.api.broadcast import BroadcastRules
from catenary.api.pusher import PREFIX, PusherApi, PusherAppApi
from catenary.api.pusher_channels import PusherChannels
from catenary.api.pusher_counts import PusherCounts
from catenary.api.pusher_webhooks import AppWebhooks, PusherWebhooks
from catenary.auth.pusher import PusherSignatures
from catenary.config.pusher_apps import WEBHOOK_EVENTS, PusherApp, pusher_apps
from catenary.errors import ConfigError
from catenary.messages.names import Sid
from catenary.node.hub import Hub
from catenary.node.occupancy import COUNT_INTERVAL_S, ObservedInterest, Occupancy
from catenary.node.publications import Publications
from catenary.node.reads import Reads
from catenary.ports import Interest, PubSub
from catenary.protocols import pusher_webhooks
from catenary.rpc.webhooks import MAX_EVENTS, WebhookReceiver, WebhookTiming
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.engines import Engine
from catenary.server.http_routes import ANY_TEXT, announce, publishing_pages, pusher_api_address
from catenary.server.ports import Ports
from catenary.server.pusher import follow_app_secret
from catenary.server.shutdown_phases import FLUSH_WEBHOOKS, SAVE_SESSIONS
from catenary.supervision.health import reported


class PusherState:
    """Counts the clients of all nodes for the API and webhooks. Without apps, nothing is observed."""

    def __init__(self, build: ServerBuild, engine: Engine) -> None:
        """Registers the webhooks; raises :class:`catenary.errors.ConfigError` for an unusable one."""
        self.apps: Final = pusher_apps(build.options)
        self._engine = engine
        if engine.is_shared and not engine.keeps and any(app.webhooks for app in self.apps):
            raise ConfigError(
                "pusher.apps: expected a broker (broker=redis or broker=nats) for webhooks of several nodes, got"
                " none: no node would know whether a channel is vacated"
            )
        self.webhooks: Final = PusherWebhooks(_webhooks(build, self.apps))
        receivers = sum(len(app.webhooks) for app in self.apps)
        if receivers:
            counters = build.counters
            build.figures.queue(
                "webhooks", lambda: counters.webhook_queue_size, MAX_EVENTS * receivers
            )
        self._observed: Final = (
            ObservedInterest(engine.interest, self.webhooks.covers) if self.apps else None
        )
        self.interest: Final[Interest] = self._observed or engine.interest

    def occupancy(self, build: ServerBuild, hub: Hub, pubsub: PubSub) -> Occupancy | None:
        """Follows the occupied channels of the cluster; None without apps. ``hub`` was built with :attr:`interest`."""
        if self._observed is None:
            return None
        ttl_s = build.options.broker.presence_ttl_s
        name = Sid(secrets.token_hex(8))
        occupancy = Occupancy(
            # Without a broker, a node knows its own clients.
            self._engine.presence if self._engine.keeps else _own_presence(ttl_s),
            self._observed,
            PusherCounts(self.apps, self.webhooks, pubsub.send),
            subscribers=hub.subscribers_num,
            turns=hub.turns,
            name=name,
            supervisor=build.supervisor,
        )
        build.add(occupancy.start, SAVE_SESSIONS, occupancy.close)
        build.tick(COUNT_INTERVAL_S, occupancy.count)
        build.tick(max(ttl_s / 3, 0.1), occupancy.refresh)
        build.restored.append(occupancy.restore)
        build.observers.attach(occupancy)
        if any(app.webhooks for app in self.apps):
            build.observers.attach(self.webhooks)
        return occupancy


def _own_presence(ttl_s: float) -> LocalPresence:
    return LocalPresence(ttl_s=ttl_s, clock=lambda: 0.0)


def _webhooks(build: ServerBuild, apps: Iterable[PusherApp]) -> list[AppWebhooks]:
    return [AppWebhooks(app, tuple(_receivers(build, app))) for app in apps]


def _receivers(
    build: ServerBuild, app: PusherApp
) -> Iterable[tuple[frozenset[str], Callable[[bytes], None]]]:
    """Builds a receiver for each URL of an app."""
    options = build.options.pusher
    timing = WebhookTiming(
        batch_s=options.webhook_batch_interval_ms / 1000,
        timeout_s=options.webhook_timeout_s,
        give_up_s=options.webhook_retry_s,
    )
    signatures = PusherSignatures(app.key, app.secret)
    follow_app_secret(build, app, signatures.replace)
    for number, webhook in enumerate(app.webhooks, 1):
        receiver = WebhookReceiver(
            webhook.url,
            f"URL {number} of the Pusher app {app.id}",
            partial(_seal, signatures),
            timing=timing,
            counters=build.counters,
            supervisor=build.supervisor,
        )
        build.add(receiver.start, FLUSH_WEBHOOKS, receiver.close)
        check = reported("a receiver of webhooks fails", partial(_trouble, receiver))
        build.checks.add(f"webhooks to {receiver.name}", check, is_blocking=False)
        yield frozenset(webhook.events or WEBHOOK_EVENTS), receiver.put


def _trouble(receiver: WebhookReceiver) -> str | None:
    return receiver.trouble


def _seal(
    signatures: PusherSignatures, time_ms: int, events: Iterable[bytes]
) -> tuple[bytes, dict[str, str]]:
    content = pusher_webhooks.body(time_ms, events)
    return content, pusher_webhooks.headers(signatures, content)


def add_pusher_api(
    build: ServerBuild,
    ports: Ports,
    publications: Publications,
    clients: ClientEndpoints,
    *,
    reads: Reads,
    occupancy: Occupancy | None,
) -> None:
    """The HTTP API of the Pusher apps, if there are any."""
    if occupancy is None:
        return
    options = build.options
    broadcasts = BroadcastRules(
        publications.publish_in_turns,
        build.counters,
        key="",
        pages=None,
        is_traced=build.tracer is not None,
        limit=clients.publish_limit,
    )
    apps = pusher_apps(options)
    api = PusherApi(
        [_app_api(build, app, broadcasts, PusherChannels(app, reads, occupancy)) for app in apps],
        clients.memory,
        publishing_pages(build),
    )
    address = pusher_api_address(options)
    ports.at(address).routes.append(Route(f"{PREFIX}/{{rest:{ANY_TEXT}}}", api))
    for app in apps:
        announce(build, address.port, "Pusher's API", "http", f"{PREFIX}/{app.id}")


def _app_api(
    build: ServerBuild, app: PusherApp, broadcasts: BroadcastRules, channels: PusherChannels
) -> PusherAppApi:
    api = PusherAppApi(app, broadcasts, channels)
    follow_app_secret(build, app, api.signatures.replace)
    return api
