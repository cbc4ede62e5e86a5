"""The template tags of ``{% load catenary %}``."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.template import engines
from django.template.loader import render_to_string
from django.test import RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject

from catenary.auth.signatures import Signatures
from catenary.channels.django.configuration import secret
from catenary.channels.html import action_cable_meta_tag
from tests.channels.django.project import settings as project
from tests.channels.django.project.models import Message, Room


@pytest.fixture
def room() -> Room:
    return Room.objects.create(pk=1, name="den")


def render(template: str, **context: object) -> str:
    request: Any = RequestFactory().get("/")
    request.user = context.get("user", AnonymousUser())
    return engines["django"].from_string("{% load catenary %}" + template).render(context, request)


def test_tags_for_scripts(room: Room) -> None:
    request: Any = RequestFactory().get("/")
    request.user = User(pk=7)
    page = render_to_string("project/room.html", {"room": room}, request)
    assert page.startswith(action_cable_meta_tag("/cable") + '<meta name="cable-token" content="ey')
    assert '<turbo-cable-stream-source channel="Turbo::StreamsChannel"' in page
    turbo = re.search('signed-stream-name="(.*?)"', page)
    plain = re.search("<i>(.*?)</i>", page)
    assert turbo is not None
    assert plain is not None
    signatures = Signatures(secret())
    assert signatures.verified(turbo[1]) == "Room/1:messages"
    assert signatures.verified(plain[1]) == "Room/1"


def test_anonymous_users_get_no_token() -> None:
    assert render("{% cable_jwt_meta_tag %}") == ""
    assert render("{% action_cable_with_jwt_meta_tag %}") == action_cable_meta_tag("/cable")
    page = render("{% action_cable_with_jwt_meta_tag %}", user=User(pk=7))
    assert page.startswith('<meta name="action-cable-url" content="/cable?jid=ey')


def test_the_user_of_a_request_names_the_stream_of_the_user() -> None:
    ann = User(pk=7)
    lazy = SimpleLazyObject(lambda: ann)
    assert render("{% signed_stream_name user %}", user=lazy) == render(
        "{% signed_stream_name user %}", user=ann
    )


def test_urls_are_escaped() -> None:
    with override_settings(CATENARY={**project.CATENARY, "URL": 'wss://x/?a="&b'}):
        page = render("{% action_cable_meta_tag %}")
    assert page == '<meta name="action-cable-url" content="wss://x/?a=&quot;&amp;b">'


def test_ids_of_elements(room: Room) -> None:
    assert render("{% dom_id room %}", room=room) == "room_1"
    with pytest.raises(ValueError, match="expected it to be saved"):
        render("{% dom_id message %}", message=Message())


def test_missing_settings_are_named(room: Room) -> None:
    with override_settings(CATENARY={}):
        with pytest.raises(ImproperlyConfigured, match="IDENTIFIERS"):
            render("{% cable_jwt_meta_tag %}")
        with pytest.raises(ImproperlyConfigured, match="CABLE"):
            render("{% turbo_stream_from room %}", room=room)
    without_request = engines["django"].from_string("{% load catenary %}{% cable_jwt_meta_tag %}")
    with pytest.raises(ImproperlyConfigured, match="expected a request"):
        without_request.render()
