"""What a Pusher app grants its clients."""

import pytest

from catenary.config.pusher_apps import PusherApp
from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment, Ingress
from catenary.messages.names import Identifier, Sid
from catenary.messages.replies import Confirmed, Welcome
from catenary.routing.pusher import PusherApplication

CLIENT = Environment(Sid("1.2"), "ws://test/app/k", {}, ingress=Ingress(realm="pusher:a"))
APP = PusherApp(id="a", key="k", secret="s", stream_prefix="a:")


def subscribe(channel: str, app: PusherApp = APP) -> Decision:
    return PusherApplication(app).subscribe(CLIENT, Identifier(channel))


def test_every_client_is_accepted_without_an_application() -> None:
    decision = PusherApplication(APP).connect(CLIENT)
    assert decision.verdict is Verdict.SUCCESS
    assert decision.replies == (Welcome(Sid("1.2")),)
    assert decision.disconnect_wanted is False


@pytest.mark.parametrize(
    ("channel", "whispers", "has_members"),
    [
        ("news", False, False),
        ("cache-news", False, False),
        ("private-x", True, False),
        ("private-cache-x", True, False),
        ("private-encrypted-x", False, False),
        ("private-encrypted-cache-x", False, False),
        ("presence-x", True, True),
        ("presence-cache-x", True, True),
        ("#server-to-user-7", False, False),
    ],
)
def test_a_channel_is_the_stream_of_its_app(
    channel: str, *, whispers: bool, has_members: bool
) -> None:
    decision = subscribe(channel)
    assert decision.streams == (f"a:{channel}",)
    assert decision.whisper_stream == (f"a:{channel}" if whispers else None)
    assert decision.presence_stream == (f"a:{channel}" if has_members else None)
    # The members of a presence channel confirm the subscription.
    assert decision.replies == (() if has_members else (Confirmed(Identifier(channel)),))


def test_an_app_may_forbid_client_events() -> None:
    app = PusherApp(id="a", key="k", secret="s", client_events=False)
    assert subscribe("private-x", app).whisper_stream is None


def test_there_are_no_actions() -> None:
    with pytest.raises(AppFailed):
        PusherApplication(APP).perform(CLIENT, Identifier("news"), "{}")
