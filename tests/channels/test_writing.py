"""JSON of what applications send."""

import pytest

from catenary.channels.html import Html
from catenary.channels.writing import write


def test_safe_markup_is_text() -> None:
    assert write({"html": [Html("<b>")]}) == b'{"html":["<b>"]}'


def test_a_value_that_json_can_not_carry_raises() -> None:
    with pytest.raises(TypeError, match="Encoding objects of type object is unsupported"):
        write(object())
