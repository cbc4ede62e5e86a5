"""Turbo Streams for models: pages that follow what is saved and deleted.

What is published is rendered from the model's template when its transaction was committed. A server
that is away is logged, and fails no save.
Source: app/models/concerns/turbo/broadcastable.rb (hotwired/turbo-rails), and its names.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeVar

from django.db.models import Model
from django.db.models.signals import post_delete, post_save
from django.template.loader import render_to_string

from catenary.channels.django.cable import after_commit
from catenary.channels.django.configuration import project_cable
from catenary.channels.html import turbo_stream
from catenary.channels.streams import stream_name
from catenary.errors import BackendError
from catenary.logs.rate_limited import RateLimitedLogger

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))

Action = Literal["append", "prepend", "before", "after", "replace", "update", "remove", "refresh"]
M = TypeVar("M", bound=type[Model])


def dom_id(instance: Model) -> str:
    """The id of an object's element: ``message_7``. Raises ValueError before it is saved."""
    if instance.pk is None:
        raise ValueError(f"{type(instance).__name__}: expected it to be saved, got no key")
    return f"{instance._meta.model_name}_{instance.pk}"


def broadcast_stream(
    instance: Model,
    streams: Iterable[object],
    action: Action,
    *,
    target: str | None = None,
    template: str | None = None,
    context: Mapping[str, object] | None = None,
) -> None:
    """Tells the pages that listen to these names, as ``turbo_stream_from`` has them.

    ``target`` is the id of an element: unless it is given, ``messages`` for what is put into a list of
    ``Message``, and the object's own for the rest. The ``template`` is ``app/_message.html``
    unless it is given, and finds the object as ``message``, with the ``context``.
    """
    names = tuple(streams)
    # Names are read now: a deleted object has none later.
    stream = stream_name(names[0] if len(names) == 1 else names)
    model = str(instance._meta.model_name)
    where = target
    if where is None and action != "refresh":
        where = f"{model}s" if action in ("append", "prepend") else dom_id(instance)
    page = template or f"{instance._meta.app_label}/_{model}.html"

    def publish() -> None:
        content = None
        if action not in ("remove", "refresh"):
            content = render_to_string(page, {**(context or {}), model: instance})
        try:
            project_cable().broadcast(stream, turbo_stream(action, where or "", content))
        except BackendError as error:
            # What was saved is saved: pages see it when they are loaded anew.
            _limited.warning("No page hears of %s on %s: %s", action, stream, error)

    after_commit(publish, using=instance._state.db)


class Broadcasts:
    """For models that tell pages of themselves: ``class Message(Broadcasts, models.Model)``.

    Keywords are those of :func:`broadcast_stream`. Methods use the database: call them from plain code.
    """

    def broadcast_action_to(self, *streams: object, action: Action, **how: Any) -> None:
        """Tells pages that listen to these names to do this."""
        assert isinstance(self, Model), "expected to be mixed into a model"
        broadcast_stream(self, streams, action, **how)

    def broadcast_append_to(self, *streams: object, **how: Any) -> None:
        """Puts it at the end of a list."""
        self.broadcast_action_to(*streams, action="append", **how)

    def broadcast_prepend_to(self, *streams: object, **how: Any) -> None:
        """Puts it at the beginning of a list."""
        self.broadcast_action_to(*streams, action="prepend", **how)

    def broadcast_before_to(self, *streams: object, **how: Any) -> None:
        """Puts it before the ``target``."""
        self.broadcast_action_to(*streams, action="before", **how)

    def broadcast_after_to(self, *streams: object, **how: Any) -> None:
        """Puts it behind the ``target``."""
        self.broadcast_action_to(*streams, action="after", **how)

    def broadcast_replace_to(self, *streams: object, **how: Any) -> None:
        """Puts it in the place of its element."""
        self.broadcast_action_to(*streams, action="replace", **how)

    def broadcast_update_to(self, *streams: object, **how: Any) -> None:
        """Puts it into its element."""
        self.broadcast_action_to(*streams, action="update", **how)

    def broadcast_remove_to(self, *streams: object, **how: Any) -> None:
        """Takes its element away."""
        self.broadcast_action_to(*streams, action="remove", **how)

    def broadcast_refresh_to(self, *streams: object) -> None:
        """Lets pages load themselves anew."""
        self.broadcast_action_to(*streams, action="refresh")


def broadcasts_to(
    streams: Callable[[Any], object],
    *,
    inserts_by: Literal["append", "prepend"] = "append",
    target: str | None = None,
    template: str | None = None,
) -> Callable[[M], M]:
    """Lets each object of a model be put into a list when it is created (``inserts_by``, ``target``),
    be replaced when it is saved again, and be removed when it is deleted.

    ``streams`` names where: a tuple for several names, as in
    ``@broadcasts_to(lambda message: (message.room, "messages"))``. What Django saves without signals
    (``update``, ``bulk_create``) is not told.
    """

    def names(instance: Model) -> tuple[object, ...]:
        found = streams(instance)
        return found if isinstance(found, tuple) else (found,)

    def saved(instance: Model, *, created: bool, raw: bool, **_: Any) -> None:
        if raw:
            # Of a fixture: what it names may not be there yet.
            return
        if created:
            broadcast_stream(
                instance, names(instance), inserts_by, target=target, template=template
            )
        else:
            broadcast_stream(instance, names(instance), "replace", template=template)

    def deleted(instance: Model, **_: Any) -> None:
        broadcast_stream(instance, names(instance), "remove")

    def decorate(model: M) -> M:
        post_save.connect(saved, sender=model, weak=False)
        post_delete.connect(deleted, sender=model, weak=False)
        return model

    return decorate
