"""Connections that nobody needs to be asked about."""

from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.messages.replies import Welcome
from catenary.node.identity import everybody


def test_everybody_is_welcome_under_the_id_of_the_session() -> None:
    sid = Sid('quo"ted')
    assert everybody(Environment(sid, "ws://test/", {})) == Decision(
        identifiers='{"sid":"quo\\"ted"}', replies=(Welcome(sid),), disconnect_wanted=False
    )
