"""Turbo Streams for models: pages are updated when objects are saved and deleted.

The model's template is rendered and published after the commit. If the server can't be reached, that is
logged, and the save succeeds.
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
    """Publishes a Turbo Stream action for an object to pages that use ``turbo_stream_from`` with these
    names.

    ``target`` is the id of an element: by default ``messages`` if a ``Message`` is added to a list, and
    :func:`dom_id` of the object otherwise. ``template`` is by default ``app/_message.html``; it gets the
    object as ``message``, and ``context``. Raises ValueError for an object that is not saved.
    """
    names = tuple(streams)
    # Names are read now, because a deleted object has none later.
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
            # The object is saved: pages show it when they are loaded again.
            _limited.warning("Turbo Stream was not published: %s on %s: %s", action, stream, error)

    after_commit(publish, using=instance._state.db)


class Broadcasts:
    """A mixin for models that publish Turbo Streams: ``class Message(Broadcasts, models.Model)``.

    Arguments by keyword are those of :func:`broadcast_stream`. Methods use the database: call them from
    plain functions, not from coroutines.
    """

    def broadcast_action_to(self, *streams: object, action: Action, **how: Any) -> None:
        """Publishes an action to pages that subscribe to these names."""
        assert isinstance(self, Model), "expected to be mixed into a model"
        broadcast_stream(self, streams, action, **how)

    def broadcast_append_to(self, *streams: object, **how: Any) -> None:
        """Adds the object to the end of a list."""
        self.broadcast_action_to(*streams, action="append", **how)

    def broadcast_prepend_to(self, *streams: object, **how: Any) -> None:
        """Adds the object to the beginning of a list."""
        self.broadcast_action_to(*streams, action="prepend", **how)

    def broadcast_before_to(self, *streams: object, **how: Any) -> None:
        """Inserts the object before the ``target``."""
        self.broadcast_action_to(*streams, action="before", **how)

    def broadcast_after_to(self, *streams: object, **how: Any) -> None:
        """Inserts the object after the ``target``."""
        self.broadcast_action_to(*streams, action="after", **how)

    def broadcast_replace_to(self, *streams: object, **how: Any) -> None:
        """Replaces the object's element."""
        self.broadcast_action_to(*streams, action="replace", **how)

    def broadcast_update_to(self, *streams: object, **how: Any) -> None:
        """Replaces the content of the object's element."""
        self.broadcast_action_to(*streams, action="update", **how)

    def broadcast_remove_to(self, *streams: object, **how: Any) -> None:
        """Removes the object's element."""
        self.broadcast_action_to(*streams, action="remove", **how)

    def broadcast_refresh_to(self, *streams: object) -> None:
        """Reloads the pages."""
        self.broadcast_action_to(*streams, action="refresh")


def broadcasts_to(
    streams: Callable[[Any], object],
    *,
    inserts_by: Literal["append", "prepend"] = "append",
    target: str | None = None,
    template: str | None = None,
) -> Callable[[M], M]:
    """Publishes the changes of a model's objects: each is added to a list when it is created
    (``inserts_by``, ``target``), replaced when it is saved again, and removed when it is deleted.

    ``streams`` returns the name of the stream for an object, or a tuple of names::

        @broadcasts_to(lambda message: (message.room, "messages"))
        class Message(models.Model): ...

    Changes that Django makes without signals (``update``, ``bulk_create``) are not published.
    """

    def names(instance: Model) -> tuple[object, ...]:
        found = streams(instance)
        return found if isinstance(found, tuple) else (found,)

    def saved(instance: Model, *, created: bool, raw: bool, **_: Any) -> None:
        if raw:
            # An object of a fixture: related objects may not exist yet.
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
