"""The messages of Action Cable, whichever encoding carries them."""

from typing import get_args

from catenary.messages.replies import Reply
from catenary.protocols import actioncable


def test_every_reply_has_a_message() -> None:
    assert set(actioncable._MESSAGES) == set(get_args(Reply))
