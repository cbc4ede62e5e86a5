"""The context that a worker inherits from its parent."""

import os
import socket

from catenary.process.worker_context import VARIABLE, WorkerContext

CONTEXT = WorkerContext(
    number=2, sockets={8080: [5, 6]}, nats_url="nats://:secret@127.0.0.1:1", ready=7, lifeline=8
)


def test_the_environment_carries_it() -> None:
    environ = CONTEXT.to_environ()
    assert set(environ) == {VARIABLE}
    assert WorkerContext.from_environ({**os.environ, **environ}) == CONTEXT


def test_a_process_that_is_no_worker_has_none() -> None:
    assert WorkerContext.from_environ({"PATH": "/bin"}) is None


def test_it_opens_the_sockets_of_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        copy = os.dup(listening.fileno())
        context = WorkerContext(number=1, sockets={80: [copy]}, nats_url="", ready=0, lifeline=0)
        (opened,) = context.listening(80)
        with opened:
            assert opened.getsockname() == listening.getsockname()


def test_the_parent_is_told_once_and_may_be_dead() -> None:
    read_end, write_end = os.pipe()
    context = WorkerContext(number=1, sockets={}, nats_url="", ready=write_end, lifeline=0)
    context.report_ready()
    assert os.read(read_end, 10) == b"!"
    assert os.read(read_end, 10) == b""
    os.close(read_end)

    read_end, write_end = os.pipe()
    os.close(read_end)
    WorkerContext(number=1, sockets={}, nats_url="", ready=write_end, lifeline=0).report_ready()
