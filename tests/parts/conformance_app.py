"""An application behind the server: a grpcio server in the test's own process.

Its channels are small Python functions that a test defines; it records every call.
Source: service anycable.RPC, etc/rpc.proto of anycable/anycable.
"""

import itertools
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from catenary.protocols import rpc_pb2 as pb

DEADLINE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call as the application received it; ``kind`` is connect, disconnect or a command's name."""

    kind: str
    sid: str
    protov: str = ""
    url: str
    headers: dict[str, str]
    cstate: dict[str, str]
    istate: dict[str, str]
    identifier: str = ""
    identifiers: str = ""
    data: str = ""
    subscriptions: tuple[str, ...] = ()

    @property
    def query(self) -> dict[str, str]:
        """The query parameters of the client's URL."""
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.url).query))

    @property
    def cookies(self) -> dict[str, str]:
        """The client's cookies, as far as the server passed them on."""
        pairs = (part.strip().partition("=") for part in self.headers.get("cookie", "").split(";"))
        return {name: value for name, _, value in pairs if name}

    @property
    def params(self) -> dict[str, Any]:
        """The params in the identifier."""
        params: dict[str, Any] = json.loads(self.identifier)
        return params

    @property
    def payload(self) -> dict[str, Any]:
        """The data of the action."""
        payload: dict[str, Any] = json.loads(self.data)
        return payload


@dataclass
class ConnectAnswer:
    """The decision of a connect function: by default, accepted with a welcome message."""

    call: Call
    response: pb.ConnectionResponse = field(default_factory=pb.ConnectionResponse)

    def __post_init__(self) -> None:
        self.response.status = pb.SUCCESS
        self.response.identifiers = json.dumps({"sid": self.call.sid})
        self.response.transmissions.append(json.dumps({"type": "welcome", "sid": self.call.sid}))

    def identify(self, **identifiers: str) -> None:
        """Gives the connection its identifiers."""
        self.response.identifiers = json.dumps(identifiers)

    def reject(self) -> None:
        """Refuses, as Action Cable's reject_unauthorized_connection does."""
        goodbye = {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
        self.response.Clear()
        self.response.status = pb.FAILURE
        self.response.transmissions.append(json.dumps(goodbye))


@dataclass
class ChannelAnswer:
    """The decision of a channel function: by default, success."""

    call: Call
    response: pb.CommandResponse = field(default_factory=pb.CommandResponse)

    def __post_init__(self) -> None:
        self.response.status = pb.SUCCESS

    def stream_from(self, *streams: str) -> None:
        self.response.streams.extend(streams)

    def stop_stream_from(self, *streams: str) -> None:
        self.response.stopped_streams.extend(streams)

    def stop_all_streams(self) -> None:
        self.response.stop_streams = True

    def transmit(self, message: object) -> None:
        """Sends a message in the channel's envelope."""
        self.transmit_verbatim({"identifier": self.call.identifier, "message": message})

    def transmit_verbatim(self, message: object) -> None:
        self.response.transmissions.append(json.dumps(message))

    def set_istate(self, **state: str) -> None:
        self.response.env.istate.update(state)

    def set_cstate(self, **state: str) -> None:
        self.response.env.cstate.update(state)

    def reject(self) -> None:
        """Refuses a subscription, as Action Cable's reject does."""
        self.response.status = pb.FAILURE

    def disconnect(self) -> None:
        """Ends the connection."""
        self.response.disconnect = True


ConnectFunction = Callable[[ConnectAnswer], None]
ChannelFunction = Callable[[ChannelAnswer], None]


class Recorder:
    """Every call in the order of its arrival; waiting for one needs no sleeping."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._changed = threading.Condition()

    def add(self, call: Call) -> None:
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()

    def of(self, sid: str, kind: str | None = None) -> list[Call]:
        """The calls so far for one session, of one kind or of all."""
        with self._changed:
            return self._matching(sid, kind)

    def wait_for(
        self, sid: str, kind: str, *, count: int = 1, deadline_s: float = DEADLINE_S
    ) -> list[Call]:
        """Returns once there are at least ``count`` such calls. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: len(self._matching(sid, kind)) >= count, deadline_s
            ):
                raise TimeoutError(
                    f"expected {count} x {kind} of {sid} within {deadline_s} s, "
                    f"got {[call.kind for call in self._matching(sid, None)]}"
                )
            return self._matching(sid, kind)

    def wait_for_any(self, sids: list[str], kind: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Returns once there is such a call for at least one session. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: any(self._matching(sid, kind) for sid in sids), deadline_s
            ):
                raise TimeoutError(f"expected {kind} of any of {sids} within {deadline_s} s")

    def _matching(self, sid: str, kind: str | None) -> list[Call]:
        return [call for call in self._calls if call.sid == sid and kind in (None, call.kind)]


class ConformanceApp:
    """The application: ``define`` a channel, ``define_connect`` an authentication, read ``calls``.

    The query parameter ``test`` chooses a connect function; without it every client may connect.
    """

    def __init__(self) -> None:
        self.calls = Recorder()
        self._channels: dict[str, dict[str, ChannelFunction]] = {}
        self._connects: dict[str, ConnectFunction] = {}
        self._numbers = itertools.count(1)
        self._server = grpc.server(ThreadPoolExecutor(16), maximum_concurrent_rpcs=16)
        self._server.add_generic_rpc_handlers((self._service(),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def host(self) -> str:
        """The value for the server's option rpc_host."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=0).wait()

    def define(self, **functions: ChannelFunction) -> str:
        """A new channel, by its name.

        The functions are called ``subscribed``, ``unsubscribed`` or after the action.
        """
        name = f"Channel{next(self._numbers)}"
        self._channels[name] = functions
        return name

    def define_connect(self, function: ConnectFunction) -> str:
        """Defines an authentication, chosen by the value of the query parameter ``test``."""
        name = f"connect{next(self._numbers)}"
        self._connects[name] = function
        return name

    def _service(self) -> "grpc.GenericRpcHandler[Any, Any]":
        return grpc.method_handlers_generic_handler(
            "anycable.RPC",
            {
                "Connect": _method(self._connect, pb.ConnectionRequest),
                "Command": _method(self._command, pb.CommandMessage),
                "Disconnect": _method(self._disconnect, pb.DisconnectRequest),
            },
        )

    def _connect(
        self, request: pb.ConnectionRequest, context: grpc.ServicerContext
    ) -> pb.ConnectionResponse:
        call = _call("connect", request.env, context)
        self.calls.add(call)
        answer = ConnectAnswer(call)
        function = self._connects.get(call.query.get("test", ""))
        if function is not None:
            try:
                function(answer)
            except Exception as error:  # noqa: BLE001  (an application may break in any way)
                return pb.ConnectionResponse(status=pb.ERROR, error_msg=str(error))
        return answer.response

    def _command(
        self, request: pb.CommandMessage, context: grpc.ServicerContext
    ) -> pb.CommandResponse:
        call = _call(
            request.command,
            request.env,
            context,
            identifier=request.identifier,
            identifiers=request.connection_identifiers,
            data=request.data,
        )
        self.calls.add(call)
        answer = ChannelAnswer(call)
        try:
            self._run_channel(answer)
        except Exception as error:  # noqa: BLE001  (an application may break in any way)
            return pb.CommandResponse(status=pb.ERROR, error_msg=str(error))
        return answer.response

    def _run_channel(self, answer: ChannelAnswer) -> None:
        call = answer.call
        functions = self._channels[call.params["channel"]]
        match call.kind:
            case "subscribe":
                functions.get("subscribed", _do_nothing)(answer)
                accepted = answer.response.status == pb.SUCCESS
                kind = "confirm_subscription" if accepted else "reject_subscription"
                answer.transmit_verbatim({"type": kind, "identifier": call.identifier})
            case "unsubscribe":
                functions.get("unsubscribed", _do_nothing)(answer)
            case "message":
                functions[call.payload["action"]](answer)

    def _disconnect(
        self, request: pb.DisconnectRequest, context: grpc.ServicerContext
    ) -> pb.DisconnectResponse:
        """Ends every subscription with its own state, as the Ruby application does."""
        gone = _call(
            "disconnect",
            request.env,
            context,
            identifiers=request.identifiers,
            subscriptions=tuple(request.subscriptions),
        )
        self.calls.add(gone)
        for identifier in gone.subscriptions:
            params = json.loads(identifier)
            function = self._channels[params["channel"]].get("unsubscribed", _do_nothing)
            state = json.loads(gone.istate.get(identifier, "{}"))
            call = _call("unsubscribe", request.env, context, identifier=identifier, istate=state)
            function(ChannelAnswer(call))
        return pb.DisconnectResponse(status=pb.SUCCESS)


def _do_nothing(_answer: ChannelAnswer) -> None:
    """The default functions of a channel."""


def _call(kind: str, env: pb.Env, context: grpc.ServicerContext, **more: Any) -> Call:
    metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
    return Call(
        **{
            "kind": kind,
            "sid": metadata.get("sid", ""),
            "protov": metadata.get("protov", ""),
            "url": env.url,
            "headers": dict(env.headers),
            "cstate": dict(env.cstate),
            "istate": dict(env.istate),
            **more,
        }
    )


def _method(function: Any, request: Any) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_unary_rpc_method_handler(
        function,
        request_deserializer=request.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


@contextmanager
def conformance_app() -> Iterator[ConformanceApp]:
    """An application for the length of a with block, answering when it begins."""
    app = ConformanceApp()
    app.start()
    try:
        yield app
    finally:
        app.stop()
