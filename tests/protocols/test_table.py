"""Which protocol a client gets for the subprotocols that it offers."""

import pytest

from catenary.errors import RequestRefused
from catenary.protocols.table import (
    ACTION_CABLE,
    ACTION_CABLE_EXTENDED_JSON,
    ACTION_CABLE_JSON,
    ACTION_CABLE_UNSUPPORTED,
    ClientProtocol,
    ProtocolSet,
)

UNSUPPORTED = "actioncable-unsupported"


@pytest.mark.parametrize(
    ("offered", "protocol", "confirmed"),
    [
        (["actioncable-v1-json", UNSUPPORTED], ACTION_CABLE_JSON, "actioncable-v1-json"),
        (["actioncable-v1-ext-json"], ACTION_CABLE_EXTENDED_JSON, "actioncable-v1-ext-json"),
        (
            ["actioncable-v1-ext-json", "actioncable-v1-json"],
            ACTION_CABLE_JSON,
            "actioncable-v1-json",
        ),
        (["mqtt", UNSUPPORTED], ACTION_CABLE_UNSUPPORTED, UNSUPPORTED),
        (["mqtt"], ACTION_CABLE_JSON, None),
        (["ACTIONCABLE-V1-JSON"], ACTION_CABLE_JSON, None),
        ([], ACTION_CABLE_JSON, None),
    ],
)
def test_the_protocols_of_a_cable(
    offered: list[str], protocol: ClientProtocol, confirmed: str | None
) -> None:
    assert ACTION_CABLE.choose(offered) == (protocol, confirmed)


def test_without_a_fallback_a_client_that_offers_nothing_known_is_refused() -> None:
    only = ProtocolSet((ACTION_CABLE_EXTENDED_JSON, ACTION_CABLE_UNSUPPORTED))
    assert only.choose([UNSUPPORTED]) == (ACTION_CABLE_UNSUPPORTED, UNSUPPORTED)
    for offered in ([], ["mqtt"]):
        with pytest.raises(RequestRefused, match="one of: actioncable-v1-ext-json, ") as refused:
            only.choose(offered)
        assert refused.value.status == 400
