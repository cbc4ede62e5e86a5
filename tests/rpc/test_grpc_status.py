"""What a status of gRPC means for a call: may it be made again?"""

import pytest

from catenary.errors import AppFailed
from catenary.rpc.calls import AppAway, AppBusy, AppLate
from catenary.rpc.grpc_status import failure


@pytest.mark.parametrize(
    "details",
    [
        "Received message larger than max (5242880 vs. 4194304)",
        "grpc: received message larger than max (5242880 vs. 4194304)",
        "SERVER: Sent message larger than max (5242880 vs. 4194304)",
        "gRPC message exceeds maximum size 4194304: 5242880",
        "Received message exceeds the maximum configured message size.",
        "message too large",
    ],
)
def test_a_message_over_a_limit_is_over_it_the_next_time_too(details: str) -> None:
    assert type(failure("RESOURCE_EXHAUSTED", details)) is AppFailed


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("UNAVAILABLE", AppAway),
        ("CANCELLED", AppAway),
        ("RESOURCE_EXHAUSTED", AppBusy),
        ("DEADLINE_EXCEEDED", AppLate),
        ("INVALID_ARGUMENT", AppFailed),
        ("NOT_FOUND", AppFailed),
        ("PERMISSION_DENIED", AppFailed),
        ("FAILED_PRECONDITION", AppFailed),
        ("OUT_OF_RANGE", AppFailed),
        ("UNIMPLEMENTED", AppFailed),
        ("INTERNAL", AppFailed),
        ("UNAUTHENTICATED", AppFailed),
        ("UNKNOWN", AppFailed),
    ],
)
def test_other_statuses(status: str, kind: type[Exception]) -> None:
    assert type(failure(status, "no free worker: the pool exceeds its limit")) is kind
