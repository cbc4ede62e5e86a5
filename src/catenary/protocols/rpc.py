"""RPC messages: environments → requests, responses → decisions, and the reverse for the application's side.

The structs are the messages of rpc.proto, with its names. The meaning of fields follows protocol/protocol.go and
docs/rpc.md (anycable/anycable).
Knows: values. Does not know: bytes (rpc_protobuf and rpc_json do).
"""

import enum
from collections.abc import Mapping
from typing import Final, Literal, get_args
from urllib.parse import quote

import msgspec

from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, PresenceCommand, Verdict
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import checked, reader
from catenary.messages.names import Identifier, Sid, Stream
from catenary.protocols.actioncable_json import ActionCableJson

VERSION: Final = "v1"
"""The version of rpc.proto, sent as the metadata ``protov``."""

Action = Literal["subscribe", "unsubscribe", "message"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)


class Status(enum.IntEnum):
    """The result of a call. An unknown number counts as ERROR."""

    ERROR = 0
    SUCCESS = 1
    FAILURE = 2


class Env(msgspec.Struct, frozen=True, omit_defaults=True):
    """The environment of a client."""

    url: str = ""
    headers: dict[str, str] = {}
    cstate: dict[str, str] = {}
    istate: dict[str, str] = {}


class ConnectionRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Asks whether a client may connect."""

    env: Env = Env()


class CommandMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client subscribes, unsubscribes or calls an action."""

    command: str = ""
    identifier: str = ""
    connection_identifiers: str = ""
    data: str = ""
    env: Env = Env()


class DisconnectRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client has left."""

    identifiers: str = ""
    subscriptions: tuple[str, ...] = ()
    env: Env = Env()


class EnvResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """Changes of state."""

    # Null anywhere in a response means "nothing": applications in Go and JavaScript write it, and the reference
    # accepts it.
    cstate: dict[str, str | None] | None = None
    istate: dict[str, str | None] | None = None


class ConnectionResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The response to a ConnectionRequest."""

    status: int | None = 0
    identifiers: str | None = ""
    transmissions: tuple[str, ...] | None = ()
    error_msg: str | None = ""
    env: EnvResponse | None = None


class PresenceResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A join or leave: ``type`` is "join" or "leave", ``info`` JSON or plain text."""

    type: str | None = ""
    id: str | None = ""
    info: str | None = ""


class CommandResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The response to a CommandMessage."""

    status: int | None = 0
    disconnect: bool | None = False
    stop_streams: bool | None = False
    streams: tuple[str, ...] | None = ()
    transmissions: tuple[str, ...] | None = ()
    error_msg: str | None = ""
    env: EnvResponse | None = None
    stopped_streams: tuple[str, ...] | None = ()
    presence: PresenceResponse | None = None


class DisconnectResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The response to a DisconnectRequest."""

    status: int | None = 0
    error_msg: str | None = ""


_SUCCESS: Final = int(Status.SUCCESS)

Request = ConnectionRequest | CommandMessage | DisconnectRequest
Response = ConnectionResponse | CommandResponse | DisconnectResponse


# The server's side: requests


def connection_request(environment: Environment) -> ConnectionRequest:
    """Asks whether a client may connect."""
    return ConnectionRequest(_env(environment, {}))


def command_message(
    environment: Environment, action: Action, identifier: Identifier, data: str = ""
) -> CommandMessage:
    """Passes on a command, with the channel state of its subscription only."""
    return CommandMessage(
        command=action,
        identifier=identifier,
        connection_identifiers=environment.identifiers,
        data=data,
        env=_env(environment, environment.istate_of(identifier)),
    )


def disconnect_request(
    environment: Environment, subscriptions: tuple[Identifier, ...]
) -> DisconnectRequest:
    """Reports that a client has left, with the state of each subscription as JSON text."""
    env = _env(environment, states(environment))
    return DisconnectRequest(environment.identifiers, subscriptions, env)


def states(environment: Environment) -> dict[str, str]:
    """The state of each subscription as JSON text."""
    return {
        identifier: msgspec.json.encode(state).decode()
        for identifier, state in (environment.istate or {}).items()
    }


def metadata(sid: Sid) -> dict[str, str]:
    """The metadata of every call.

    A sid may come from a client's X-Request-ID: one that metadata can't carry is percent-encoded.
    """
    safe = sid if sid.isascii() and sid.isprintable() else quote(sid)
    return {"sid": safe, "protov": VERSION}


def _env(environment: Environment, istate: dict[str, str]) -> Env:
    return Env(environment.url, environment.headers, environment.cstate or {}, istate)


# The server's side: responses


def connection_decision(response: ConnectionResponse) -> Decision:
    """Reads the response to a connection request. Raises :class:`AppFailed` for status ERROR.

    A rejected client has no identifiers, whatever the response contains.
    """
    verdict = _verdict(response)
    accepted = verdict is Verdict.SUCCESS
    return Decision(
        verdict=verdict,
        identifiers=(response.identifiers or "") if accepted else "",
        transmissions=response.transmissions or (),
        cstate=_changes(response.env.cstate) if response.env else None,
    )


def command_decision(response: CommandResponse) -> Decision:
    """Reads the response to a command. Raises :class:`AppFailed` for status ERROR."""
    if response.status == _SUCCESS and _is_plain(response):
        return Decision(transmissions=response.transmissions or ())
    verdict = _verdict(response)
    env = response.env or EnvResponse()
    return Decision(
        verdict=verdict,
        transmissions=response.transmissions or (),
        streams=tuple(map(Stream, response.streams or ())),
        stopped_streams=tuple(map(Stream, response.stopped_streams or ())),
        stop_all_streams=bool(response.stop_streams),
        disconnect=bool(response.disconnect),
        cstate=_changes(env.cstate),
        istate=_changes(env.istate),
        presence=_presence(response.presence),
    )


def _is_plain(response: CommandResponse) -> bool:
    """Whether the response has nothing but a status and transmissions, as most do."""
    return not (
        response.streams
        or response.env
        or response.presence
        or response.disconnect
        or response.stop_streams
        or response.stopped_streams
    )


def _presence(response: PresenceResponse | None) -> PresenceCommand | None:
    """A type other than join and leave is ignored (the reference logs it)."""
    if response is None:
        return None
    match response.type:
        case "join" if response.id:
            return PresenceCommand("join", response.id, _json(response.info or ""))
        case "leave":
            return PresenceCommand("leave", response.id or "")
        case _:
            return None


def _json(text: str) -> str:
    """JSON text unchanged; other text as a JSON string, empty text as null."""
    if not text:
        return "null"
    raw = checked(text.encode())
    return msgspec.json.encode(text).decode() if raw is None else raw.decode()


def check_disconnection(response: DisconnectResponse) -> None:
    """Reads the response to a disconnect request. Raises :class:`AppFailed` for status ERROR."""
    _verdict(response)


def _verdict(response: Response) -> Verdict:
    if response.status == Status.SUCCESS:
        return Verdict.SUCCESS
    if response.status == Status.FAILURE:
        return Verdict.FAILURE
    raise AppFailed(f"the application answered with an error: {response.error_msg or 'no text'}")


def _changes(state: Mapping[str, str | None] | None) -> dict[str, str] | None:
    if not state:
        return None
    return {key: value or "" for key, value in state.items()}


# The application's side


def environment_of(request: Request, sid: Sid) -> Environment:
    """The client's environment, as far as the request contains it."""
    env = request.env
    match request:
        case ConnectionRequest():
            return Environment(sid, env.url, env.headers)
        case CommandMessage(identifier=identifier):
            identifiers = request.connection_identifiers
            istate = {Identifier(identifier): env.istate} if env.istate else None
        case DisconnectRequest(identifiers=identifiers):
            istate = {
                Identifier(key): _read_state(text) for key, text in env.istate.items()
            } or None
    return Environment(sid, env.url, env.headers, identifiers, env.cstate or None, istate)


def connection_response(decision: Decision) -> ConnectionResponse:
    """Writes a decision as the response to a connection request."""
    return ConnectionResponse(
        status=_STATUSES[decision.verdict],
        identifiers=decision.identifiers,
        transmissions=_texts(decision),
        error_msg=decision.error,
        env=_env_response(decision),
    )


def command_response(decision: Decision) -> CommandResponse:
    """Writes a decision as the response to a command."""
    return CommandResponse(
        status=_STATUSES[decision.verdict],
        disconnect=decision.disconnect,
        stop_streams=decision.stop_all_streams,
        streams=decision.streams,
        transmissions=_texts(decision),
        error_msg=decision.error,
        env=_env_response(decision),
        stopped_streams=decision.stopped_streams,
        presence=_presence_response(decision.presence),
    )


def disconnect_response() -> DisconnectResponse:
    """Confirms a disconnect request."""
    return DisconnectResponse(Status.SUCCESS)


_cable = ActionCableJson()


def _texts(decision: Decision) -> tuple[str, ...]:
    """Replies as text in Action Cable's JSON, which every server of these calls reads; then the transmissions."""
    if not decision.replies:
        return decision.transmissions
    replies = [_cable.encode(reply) for reply in decision.replies]
    return (*(each.decode() for each in replies if each is not None), *decision.transmissions)


def _presence_response(command: PresenceCommand | None) -> PresenceResponse | None:
    if command is None:
        return None
    info = command.info if command.kind == "join" else ""
    return PresenceResponse(command.kind, command.id, info)


_STATUSES: Final = {
    Verdict.SUCCESS: Status.SUCCESS,
    Verdict.FAILURE: Status.FAILURE,
    Verdict.ERROR: Status.ERROR,
}


def _env_response(decision: Decision) -> EnvResponse | None:
    if not decision.cstate and not decision.istate:
        return None
    return EnvResponse({**(decision.cstate or {})}, {**(decision.istate or {})})


_read_texts: Final = reader(dict[str, str])


def _read_state(text: str) -> dict[str, str]:
    try:
        return _read_texts(text)
    except msgspec.DecodeError:
        # Another server may send other text here: the application gets no state then.
        return {}
