"""``{% load catenary %}``: tags for the cable's URL, tokens, signed streams and element ids."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.template import Context, Library
from django.utils.module_loading import import_string

from catenary.channels import html
from catenary.channels.django import turbo
from catenary.channels.django.configuration import configuration, project_cable

register = Library()


@register.simple_tag
def action_cable_meta_tag() -> html.Html:
    """``CATENARY["URL"]`` in a meta tag, for ``@rails/actioncable`` and ``@anycable/web``."""
    return html.action_cable_meta_tag(configuration().url)


@register.simple_tag(takes_context=True)
def action_cable_with_jwt_meta_tag(context: Context) -> html.Html:
    """The same with a token in the URL, if ``CATENARY["IDENTIFIERS"]`` returns identifiers for the request."""
    token = _token(context)
    if token is None:
        return action_cable_meta_tag()
    return html.action_cable_with_jwt_meta_tag(configuration().url, token)


@register.simple_tag(takes_context=True)
def cable_jwt_meta_tag(context: Context) -> str:
    """The token in a meta tag for ``@anycable/web``, or nothing."""
    token = _token(context)
    return "" if token is None else html.cable_jwt_meta_tag(token)


@register.simple_tag
def signed_stream_name(*names: object) -> str:
    """The signed name of a stream: of its name, or of objects that name it."""
    return project_cable().signed_stream_name(*names)


@register.simple_tag
def turbo_stream_from(*names: object) -> html.Html:
    """The element with which Turbo subscribes to a stream."""
    return project_cable().turbo_stream_from(*names)


@register.simple_tag
def dom_id(instance: Model) -> str:
    """The id of an object's element: ``message_7``."""
    return turbo.dom_id(instance)


def _token(context: Context) -> str | None:
    found = configuration()
    if not found.identifiers:
        raise ImproperlyConfigured('expected CATENARY["IDENTIFIERS"] for tokens, got none')
    request: Any = context.get("request")
    if request is None:
        raise ImproperlyConfigured("expected a request in the template's context, got none")
    identifiers = import_string(found.identifiers)(request)
    if identifiers is None:
        return None
    return project_cable().token(identifiers, ttl=found.token_ttl)
