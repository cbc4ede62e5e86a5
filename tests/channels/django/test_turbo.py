"""Turbo Streams of models that are saved and deleted."""

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
def published() -> Iterator[list[Broadcast]]:
    """The publications of the project's cable."""
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


def test_an_object_is_appended_then_replaced_then_removed(
    published: list[Broadcast], room: Room
) -> None:
    message = Message.objects.create(room=room, text="<b>hi</b>")
    number = message.pk
    message.text = "ho"
    message.save()
    message.delete()
    first = f'<p id="message_{number}">{escape("<b>hi</b>")}</p>\n'
    second = f'<p id="message_{number}">ho</p>\n'
    assert [each.stream for each in published] == [STREAM] * 3
    assert [each.message for each in published] == [
        stream("append", "messages", first),
        stream("replace", f"message_{number}", second),
        stream("remove", f"message_{number}"),
    ]


def test_only_committed_changes_are_published(published: list[Broadcast], room: Room) -> None:
    with transaction.atomic():
        Message.objects.create(room=room, text="never")
        transaction.set_rollback(True)
    with transaction.atomic():
        message = Message.objects.create(room=room, text="not yet")
        message.text = "as committed"
        assert published == []
    (only,) = published
    assert "as committed" in only.message


def test_cascaded_deletes_are_published(published: list[Broadcast], room: Room) -> None:
    message = Message.objects.create(room=room, text="hi")
    number = message.pk
    room.delete()
    assert published[-1].message == stream("remove", f"message_{number}")
    assert published[-1].stream == STREAM


def test_fixtures_are_not_published(published: list[Broadcast], room: Room) -> None:
    text = serializers.serialize("json", [Message(pk=1, room=room, text="hi")])
    for each in serializers.deserialize("json", text):
        each.save()
    assert Message.objects.count() == 1
    assert published == []


def test_the_methods_of_a_model(published: list[Broadcast], room: Room) -> None:
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
    assert [each.message for each in published] == [
        stream("append", "messages", content),
        stream("prepend", "here", content),
        stream("before", "there", content),
        stream("after", "message_7", content),
        stream("replace", "message_7", content),
        stream("update", "message_7", content),
        stream("remove", "message_7"),
        stream("refresh", ""),
    ]
    assert [each.stream for each in published[-3:]] == ["all", "Room/1:all", "Room/1"]


def test_an_unreachable_server_does_not_fail_a_save(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    Message.objects.create(room=room, text="hi")
    assert Message.objects.count() == 1
    assert (
        "Turbo Stream was not published: append on Room/1:messages: no server accepts broadcasts at"
        in caplog.text
    )


def test_an_unsaved_object_has_no_element_id(room: Room) -> None:
    with pytest.raises(ValueError, match="expected it to be saved"):
        broadcast_stream(Message(room=room), [room], "remove")


@in_loop
async def test_changes_by_coroutines_are_published() -> None:
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
