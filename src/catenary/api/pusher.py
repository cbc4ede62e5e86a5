"""Pusher's HTTP API: events, channels and users of the apps of this server, below ``/apps/ID/``.

Source: https://pusher.com/docs/channels/library_auth_reference/rest-api.
Knows: paths, methods, signatures. Does not know: clients, how events are delivered.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import unquote

import msgspec
from starlette.types import Receive, Scope, Send

from catenary.api.access import Access, ApiResponse, send_answer
from catenary.api.broadcast import MAX_BODY_BYTES, BroadcastRules
from catenary.api.pusher_channels import PusherChannels
from catenary.api.request_body import read_body
from catenary.auth.origins import Origins
from catenary.auth.pusher import PusherSignatures
from catenary.auth.pusher_requests import (
    SignatureError,
    SignedRequest,
    check_body,
    verified_parameters,
)
from catenary.config.pusher_apps import PusherApp
from catenary.errors import BackendError, BackendRefused, NotKept, RequestRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.protocols import pusher_rest
from catenary.protocols.pusher_events import event_text, is_presence, user_identifiers
from catenary.protocols.pusher_rest import Attributes, Event
from catenary.wire.http1 import header_text
from catenary.wire.request_memory import RequestMemory

PREFIX: Final = "/apps"

WRITTEN_AT_ONCE: Final = 1_000
"""Channels or users that are written in one turn of the event loop: about 1 ms."""

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.pusher"))

_DONE: Final = ApiResponse(200, content=b"{}")
_METHODS: Final = "GET, POST"

_T = TypeVar("_T")

_write: Final = msgspec.json.encode


class PusherApi:
    """An ASGI application. Answers 401 without a valid signature, 404 for an unknown app or path, 405 for another method,
    400 for a request that breaks a rule, 413 for one that is too large, 501 for what needs a broker, and 503 while Redis
    or NATS is away.

    ``pages`` are the origins whose pages may send requests (CORS); None: no page may.
    """

    __slots__ = ("_access", "_apps", "_memory")

    def __init__(
        self, apps: Iterable["PusherAppApi"], memory: RequestMemory, pages: Origins | None
    ) -> None:
        self._apps = {each.id: each for each in apps}
        self._memory = memory
        self._access = Access(_METHODS, key="", pages=pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): header_text(value) for name, value in scope["headers"]}
        try:
            answer = await self._answer(scope, headers, receive)
        except RequestRefused as error:
            answer = ApiResponse(error.status, str(error), headers=error.headers)
        except SignatureError as error:
            answer = ApiResponse(401, str(error))
        except NotKept as error:
            answer = ApiResponse(501, str(error))
        except BackendRefused as error:
            answer = ApiResponse(400, str(error))
        except BackendError as error:
            answer = ApiResponse(503, f"try again: {error}")
        await send_answer(send, answer, self._access.cors(headers.get("origin", "")))

    async def _answer(
        self, scope: Scope, headers: Mapping[str, str], receive: Receive
    ) -> ApiResponse:
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        if self._access.is_preflight(method):
            return ApiResponse(200)
        app, segments = self._app(path)
        action = app.action(method, segments)
        query = scope["query_string"].decode("latin-1")
        parameters = verified_parameters(
            SignedRequest(method, path, query), app.signatures, time.time()
        )
        body = await read_body(receive, self._memory, MAX_BODY_BYTES)
        check_body(parameters, body)
        return await action(parameters, body, headers)

    def _app(self, path: str) -> tuple["PusherAppApi", list[str]]:
        """The app that a path names, and the segments after it. An encoded slash separates no segments here, although the
        route was matched on the decoded path. Raises :class:`RequestRefused`."""
        prefix, slash, rest = path.removeprefix("/").partition("/")
        app_id, *segments = map(unquote, rest.split("/"))
        if f"/{unquote(prefix)}" != PREFIX or not slash:
            raise RequestRefused(404, f"expected {PREFIX}/ID in the path")
        app = self._apps.get(app_id)
        if app is None:
            raise RequestRefused(404, f"unknown app {app_id[:40]!r}")
        return app, segments


Action = Callable[[Mapping[str, str], bytes, Mapping[str, str]], Awaitable[ApiResponse]]
"""Gets the parameters of the query, the body and the header fields."""


class PusherAppApi:
    """The requests of one app. ``broadcasts`` publishes, as for other publications over HTTP."""

    __slots__ = ("_app", "_broadcasts", "_channels", "id", "signatures")

    def __init__(
        self, app: PusherApp, broadcasts: BroadcastRules, channels: PusherChannels
    ) -> None:
        self._app = app
        self._broadcasts = broadcasts
        self._channels = channels
        self.id: Final = app.id
        self.signatures: Final = PusherSignatures(app.key, app.secret)

    def action(self, method: str, segments: Sequence[str]) -> Action:
        """Returns the action for a method and a path below that of the app. Raises :class:`RequestRefused`."""
        allowed, action = self._route(segments)
        if method != allowed:
            raise RequestRefused(405, f"expected {allowed}, got {method}", (("Allow", allowed),))
        return action

    def _route(self, segments: Sequence[str]) -> tuple[str, Action]:
        match segments:
            case ["events"]:
                return "POST", self._trigger
            case ["batch_events"]:
                return "POST", self._trigger_batch
            case ["channels"]:
                return "GET", lambda query, _body, _headers: self._list_channels(query)
            case ["channels", channel]:
                return "GET", lambda query, _body, _headers: self._describe(channel, query)
            case ["channels", channel, "users"]:
                return "GET", lambda _query, _body, _headers: self._list_users(channel)
            case ["users", user_id, "events"]:
                return "POST", lambda _, body, headers: self._trigger_for_user(
                    user_id, body, headers
                )
            case ["users", user_id, "terminate_connections"]:
                return "POST", lambda _query, body, _headers: self._terminate(user_id, body)
        raise RequestRefused(404, "expected events, batch_events, channels or users in the path")

    # Events

    async def _trigger(
        self, _: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> ApiResponse:
        event = pusher_rest.read_event(body, self._app.max_event_size)
        refusal = await self._publish((event,), headers)
        if refusal is not None:
            return refusal
        if not event.info:
            return _DONE
        known = await _or_nothing(self._channels.attributes_of(list(event.channels), event.info))
        return ApiResponse(200, content=pusher_rest.events_answer(known or {}))

    async def _trigger_batch(
        self, _: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> ApiResponse:
        events = pusher_rest.read_batch(body, self._app.max_event_size)
        refusal = await self._publish(events, headers)
        if refusal is not None:
            return refusal
        if not any(event.info for event in events):
            return _DONE
        reads = (self._channels.attributes(event.channels[0], event.info) for event in events)
        known = await _or_nothing(asyncio.gather(*reads))
        return ApiResponse(200, content=pusher_rest.batch_answer(known or ()))

    async def _trigger_for_user(
        self, user_id: str, body: bytes, headers: Mapping[str, str]
    ) -> ApiResponse:
        event = pusher_rest.read_user_event(body, user_id, self._app.max_event_size)
        return await self._publish((event,), headers) or _DONE

    async def _terminate(self, user_id: str, body: bytes) -> ApiResponse:
        """Closes all connections of a user, at every node."""
        pusher_rest.check_user_id(user_id)
        pusher_rest.check_object(body)
        identifiers = user_identifiers(self._app.id, user_id)
        payload = {"identifier": identifiers, "reconnect": False}
        return await self._send({"command": "disconnect", "payload": payload}, {}) or _DONE

    async def _publish(
        self, events: Iterable[Event], headers: Mapping[str, str]
    ) -> ApiResponse | None:
        """Publishes all events or none. Returns None after success, otherwise the response with the error."""
        publications = [
            {
                "stream": self._app.stream_of(channel),
                "data": event_text(event.name, event.data),
                "meta": {"exclude_socket": event.socket_id},
            }
            for event in events
            for channel in event.channels
        ]
        if not publications:
            return None
        content = publications[0] if len(publications) == 1 else publications
        return await self._send(content, headers)

    async def _send(self, content: object, headers: Mapping[str, str]) -> ApiResponse | None:
        taken = self._broadcasts.take(_write(content), headers, f"Pusher app {self.id}")
        answer = taken if isinstance(taken, ApiResponse) else await self._broadcasts.answer(taken)
        return None if answer.status == 201 else answer

    # Channels

    async def _list_channels(self, query: Mapping[str, str]) -> ApiResponse:
        info = pusher_rest.read_info(query.get("info"))
        prefix = query.get("filter_by_prefix", "")
        if pusher_rest.USER_COUNT in info and not is_presence(prefix):
            raise RequestRefused(
                400,
                "info: user_count needs filter_by_prefix=presence-, because other channels have no users",
            )
        channels = await self._channels.occupied(prefix)
        known = await self._channels.attributes_of(channels, info)
        listed = await _joined(known.items(), _channel)
        return ApiResponse(200, content=b'{"channels":{%b}}' % listed)

    async def _describe(self, channel: str, query: Mapping[str, str]) -> ApiResponse:
        pusher_rest.check_channel(channel)
        info = pusher_rest.read_info(query.get("info"))
        if pusher_rest.USER_COUNT in info and not is_presence(channel):
            raise RequestRefused(400, "info: only presence channels have a user_count")
        known = await self._channels.attributes(channel, info)
        is_occupied = await self._channels.subscriptions(channel) > 0
        known = msgspec.structs.replace(known, occupied=is_occupied)
        return ApiResponse(200, content=_write(known))

    async def _list_users(self, channel: str) -> ApiResponse:
        pusher_rest.check_channel(channel)
        if not is_presence(channel):
            raise RequestRefused(400, "Users can only be retrieved for presence channels")
        listed = await _joined(await self._channels.users(channel), _user)
        return ApiResponse(200, content=b'{"users":[%b]}' % listed)


async def _or_nothing(read: Awaitable[_T]) -> _T | None:
    """Reads attributes for the response to events that were published; None if the read fails: after an error, the
    publisher would publish the events again."""
    try:
        return await read
    except (BackendError, NotKept) as error:
        _limited.info("Pusher API response without channel attributes: %s", error)
        return None


async def _joined(items: Iterable[_T], write: Callable[[_T], bytes]) -> bytes:
    """Writes items with commas between them, and yields to the event loop after every thousand."""
    pieces: list[bytes] = []
    for number, item in enumerate(items, 1):
        pieces.append(write(item))
        if number % WRITTEN_AT_ONCE == 0:
            await asyncio.sleep(0)
    return b",".join(pieces)


def _user(user_id: str) -> bytes:
    return b'{"id":%b}' % _write(user_id)


def _channel(item: tuple[str, Attributes]) -> bytes:
    return b"%b:%b" % (_write(item[0]), _write(item[1]))
