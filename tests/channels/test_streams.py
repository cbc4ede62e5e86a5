"""Names of streams for objects."""

from dataclasses import dataclass
from uuid import UUID

import pytest

from catenary.channels.streams import stream_name


@dataclass
class Model:
    pk: int | None


@dataclass
class Param:
    number: int

    def to_param(self) -> str:
        return str(self.number)


@dataclass
class Global:
    gid: str


class Asked:
    def gid(self) -> str:
        return "gid://app/Asked/7"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("chat", "chat"),
        (42, "42"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (["a", 1, Model(2)], "a:1:Model/2"),
        (("a",), "a"),
        (Model(2), "Model/2"),
        (Param(3), "Param/3"),
        (Global("gid://app/Room/1"), "gid://app/Room/1"),
        (Asked(), "gid://app/Asked/7"),
    ],
)
def test_the_name_of_an_object(target: object, name: str) -> None:
    assert stream_name(target) == name


@pytest.mark.parametrize("target", [None, True, 1.5, object(), {"a": 1}, b"bytes"])
def test_an_object_without_a_name_is_refused(target: object) -> None:
    with pytest.raises(TypeError, match="expected text, a number"):
        stream_name(target)


@pytest.mark.parametrize("target", ["", [], Model(None), Global(""), [Model(None)]])
def test_an_empty_name_is_refused(target: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        stream_name(target)
