"""Errors of Redis, as its versions write them: which end by themselves, and which come again."""

import pytest

from catenary.protocols.redis_errors import is_lasting


@pytest.mark.parametrize(
    "error",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "WRONGTYPE Operation against a key holding the wrong kind of value "
        "script: 5c5e1b, on @user_script:7.",
        "NOPERM this user has no permissions to access one of the channels used as arguments",
        "ERR unknown command 'XADD', with args beginning with: 's'",
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        "ERR Protocol error: invalid bulk length",
        "EXECABORT Transaction discarded because of previous errors.",
        # Redis 6.2
        "ERR Error running script (call to f_5c5e1b): @user_script:6: "
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR Error running script (call to f_5c5e1b): @user_script:6: "
        "@user_script: 6: Unknown Redis command called from Lua script",
        # Other text in the error does not matter
        "ERR unknown command 'OOM', with args beginning with: 'LOADING'",
    ],
)
def test_lasting_errors(error: str) -> None:
    assert is_lasting(error)


@pytest.mark.parametrize(
    "error",
    [
        "LOADING Redis is loading the dataset in memory",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "OOM command not allowed when used memory > 'maxmemory'. "
        "script: 5c5e1b, on @user_script:17.",
        "READONLY You can't write against a read only replica.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist "
        "to disk.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "NOAUTH Authentication required.",
        "CLUSTERDOWN The cluster is down",
        # Redis 6.2
        "ERR Error running script (call to f_5c5e1b): @user_script:6: "
        "-OOM command not allowed when used memory > 'maxmemory'.",
        "ERR Error running script (call to f_5c5e1b): @user_script:6: "
        "-READONLY You can't write against a read only replica.",
        # A proxy before Redis
        "upstream failure",
    ],
)
def test_passing_errors(error: str) -> None:
    assert not is_lasting(error)
