"""The assembly of Pusher's endpoint."""

import re

from catenary.server.pusher import new_socket_id


def test_socket_ids_have_the_form_that_pusher_s_libraries_require() -> None:
    made = {new_socket_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"\d+\.\d+", each) for each in made)
