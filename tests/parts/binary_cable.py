"""Action Cable's binary encodings as clients have them: MessagePack, and Protobuf by Google's library.

The schema is the one that ships with the server, ``src/catenary/protocols/actioncable.proto``.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
from grpc_tools import protoc

Message = dict[str, Any]


class Encoding(NamedTuple):
    """How a client writes its commands, and reads what the server sends, by the names of the JSON encoding."""

    write: Callable[[Message], bytes]
    read: Callable[[bytes], Message]


@cache
def schema() -> Any:
    """The module that protoc makes of the server's schema."""
    source = Path(str(files("catenary.protocols") / "actioncable.proto"))
    with TemporaryDirectory() as directory:
        done = protoc.main(
            ["", f"-I{source.parent}", f"--python_out={directory}", str(source)],
        )
        assert done == 0
        path = Path(directory) / "actioncable_pb2.py"
        spec = importlib.util.spec_from_file_location("actioncable_pb2", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module


def write_protobuf(command: Message) -> bytes:
    """A client's message; ``data`` that is no text is written as JSON, ``presence`` info as MessagePack."""
    schema_ = schema()
    message = schema_.Message(identifier=command.get("identifier", ""))
    message.command = schema_.ClientCommand.Command.Value(command["command"])
    if "data" in command:
        data = command["data"]
        message.data = data if isinstance(data, str) else json.dumps(data)
    history = command.get("history")
    if history is not None:
        message.history.since = int(history.get("since") or 0)
        for stream, position in history.get("streams", {}).items():
            message.history.streams[stream].epoch = position["epoch"]
            message.history.streams[stream].offset = position["offset"]
    presence = command.get("presence")
    if presence is not None:
        message.presence.id = str(presence["id"])
        message.presence.info = msgspec.msgpack.encode(presence.get("info"))
    raw: bytes = message.SerializeToString()
    return raw


def read_protobuf(raw: bytes, *, is_extended: bool) -> Message:
    """A message of the server; fields that are not set are left out."""
    kind = schema().Reply if is_extended else schema().Message
    fields = {field.name: value for field, value in kind.FromString(raw).ListFields()}
    if "type" in fields:
        fields["type"] = schema().Type.Name(fields["type"])
    if "message" in fields:
        fields["message"] = msgspec.msgpack.decode(fields["message"])
    if "restored_ids" in fields:
        fields["restored_ids"] = list(fields["restored_ids"])
    return fields


MESSAGE_PACK = Encoding(msgspec.msgpack.encode, msgspec.msgpack.decode)
PROTOBUF = Encoding(write_protobuf, lambda raw: read_protobuf(raw, is_extended=False))
EXTENDED_PROTOBUF = Encoding(write_protobuf, lambda raw: read_protobuf(raw, is_extended=True))

ENCODINGS = {
    "actioncable-v1-msgpack": MESSAGE_PACK,
    "actioncable-v1-ext-msgpack": MESSAGE_PACK,
    "actioncable-v1-protobuf": PROTOBUF,
    "actioncable-v1-ext-protobuf": EXTENDED_PROTOBUF,
}
