"""What pages are told of models that are saved and deleted."""

from collections.abc import Iterator
from html import escape

import pytest
from django.core import serializers
from django.db import transaction

from catenary.channels.django.turbo import broadcast_stream
from catenary.channels.testing import Broadcast, TestCable
from tests.channels.django.project.cable import cable as project_cable
from tests.channels.django.project.models import Message, Room
from tests.parts.heart import in_loop

STREAM = "Room/1:messages"


@pytest.fixture
def told() -> Iterator[list[Broadcast]]:
    """What the project's cable published."""
    served = TestCable(project_cable)
    publications = project_cable._publications
    publications._own = served
    yield served.broadcasts
    publications._own = None
    served.close()


@pytest.fixture
def room() -> Room:
    return Room.objects.create(pk=1, name="den")


def stream(action: str, target: str, content: str | None = None) -> str:
    within = "" if content is None else f"<template>{content}</template>"
    where = f' target="{target}"' if target else ""
    return f'<turbo-stream action="{action}"{where}>{within}</turbo-stream>'


def test_it_is_put_into_a_list_then_replaced_then_removed(
    told: list[Broadcast], room: Room
) -> None:
    message = Message.objects.create(room=room, text="<b>hi</b>")
    number = message.pk
    message.text = "ho"
    message.save()
    message.delete()
    first = f'<p id="message_{number}">{escape("<b>hi</b>")}</p>\n'
    second = f'<p id="message_{number}">ho</p>\n'
    assert [each.stream for each in told] == [STREAM] * 3
    assert [each.message for each in told] == [
        stream("append", "messages", first),
        stream("replace", f"message_{number}", second),
        stream("remove", f"message_{number}"),
    ]


def test_pages_hear_of_what_was_committed_alone(told: list[Broadcast], room: Room) -> None:
    with transaction.atomic():
        Message.objects.create(room=room, text="never")
        transaction.set_rollback(True)
    with transaction.atomic():
        message = Message.objects.create(room=room, text="not yet")
        message.text = "as committed"
        assert told == []
    (only,) = told
    assert "as committed" in only.message


def test_what_goes_with_a_room_is_removed(told: list[Broadcast], room: Room) -> None:
    message = Message.objects.create(room=room, text="hi")
    number = message.pk
    room.delete()
    assert told[-1].message == stream("remove", f"message_{number}")
    assert told[-1].stream == STREAM


def test_fixtures_are_not_told(told: list[Broadcast], room: Room) -> None:
    text = serializers.serialize("json", [Message(pk=1, room=room, text="hi")])
    for each in serializers.deserialize("json", text):
        each.save()
    assert Message.objects.count() == 1
    assert told == []


def test_what_a_model_says_when_it_wants_to(told: list[Broadcast], room: Room) -> None:
    message = Message(pk=7, room=room, text="hi")
    how = {"template": "project/_message.html", "context": {"mark": "!"}}
    content = '<p id="message_7">hi!</p>\n'
    message.broadcast_append_to("all", **how)
    message.broadcast_prepend_to("all", target="here", **how)
    message.broadcast_before_to("all", target="there", **how)
    message.broadcast_after_to("all", **how)
    message.broadcast_replace_to("all", **how)
    message.broadcast_update_to("all", **how)
    message.broadcast_remove_to(room, "all")
    message.broadcast_refresh_to(room)
    assert [each.message for each in told] == [
        stream("append", "messages", content),
        stream("prepend", "here", content),
        stream("before", "there", content),
        stream("after", "message_7", content),
        stream("replace", "message_7", content),
        stream("update", "message_7", content),
        stream("remove", "message_7"),
        stream("refresh", ""),
    ]
    assert [each.stream for each in told[-3:]] == ["all", "Room/1:all", "Room/1"]


def test_a_server_that_is_away_fails_no_save(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    Message.objects.create(room=room, text="hi")
    assert Message.objects.count() == 1
    assert (
        "Turbo Stream was not published: append on Room/1:messages: no server accepts broadcasts at"
        in caplog.text
    )


def test_what_has_no_key_has_no_element(room: Room) -> None:
    with pytest.raises(ValueError, match="expected it to be saved"):
        broadcast_stream(Message(room=room), [room], "remove")


@in_loop
async def test_coroutines_save_and_pages_are_told() -> None:
    room = await Room.objects.acreate(pk=1, name="den")
    served = TestCable(project_cable)
    try:
        connection = await served.connect(user_id=1)
        chat = await connection.subscribe(project_cable.channels[0], id=room.pk)
        await chat.perform("say", text="hi")
        (only,) = served.broadcasts
        assert only.stream == STREAM
        assert "hi" in only.message
    finally:
        served.close()
