"""How a cable answers: at once or later, in whose thread, and what happens when clients leave."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar

import pytest

from catenary import Cable, Channel, action, callback, every, rescue_from
from catenary.channels.publishing import Publisher
from catenary.channels.testing import TestCable
from catenary.errors import BackendError
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from tests.parts.heart import in_loop

PACE = Identifier('{"channel":"Pace"}')


def environment(sid: str = "s1") -> Environment:
    return Environment(Sid(sid), "", {})


class Pace(Channel):
    heard: ClassVar[list[str]] = []
    gate: ClassVar[asyncio.Event]
    door: ClassVar[threading.Event]

    @action
    async def at_once(self) -> None:
        self.transmit("now")

    @action
    async def later(self) -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        self.transmit("later")

    @action
    def blocking(self) -> None:
        self.door.wait(5)
        self.heard.append("blocked")

    @action
    async def hold_the_loop(self, *, wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        threading.Event().wait(0.03)

    @action
    async def publish(self) -> None:
        self.broadcast_to(1, "x")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Pace.heard.clear()
    Pace.door = threading.Event()


async def decided(answer: Decision | Awaitable[Decision]) -> Decision:
    return answer if isinstance(answer, Decision) else await answer


async def answered(ask: Callable[[], Decision | Awaitable[Decision]]) -> Decision:
    return await decided(ask())


class Recorder:
    """Satisfies Publisher; takes its time where a test wants it."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.threads: set[int] = set()
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    def publish(self, raw: bytes) -> Awaitable[None] | None:
        self.taken.append(raw)
        self.threads.add(threading.get_ident())
        return None if self.gate is None and self.error is None else self._take()

    async def _take(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error


# At once or later


@in_loop
async def test_a_call_without_code_of_the_application_is_decided_at_once() -> None:
    cable = Cable(channels=[Pace])
    assert isinstance(cable.application.connect(environment()), Decision)
    assert isinstance(cable.application.subscribe(environment(), PACE), Decision)
    assert isinstance(cable.application.unsubscribe(environment(), PACE), Decision)


@in_loop
async def test_a_method_that_does_not_wait_is_decided_at_once_where_tasks_can_begin_at_once() -> (
    None
):
    cable = Cable(channels=[Pace])
    answer = cable.application.perform(environment(), PACE, '{"action":"at_once"}')
    assert isinstance(answer, Decision) == (sys.version_info >= (3, 12))
    assert (await decided(answer)).replies


@in_loop
async def test_what_waits_has_a_task_so_that_timeouts_work() -> None:
    cable = Cable(channels=[Pace])
    answer = cable.application.perform(environment(), PACE, '{"action":"later"}')
    assert not isinstance(answer, Decision)
    assert (await answer).replies


@in_loop
async def test_a_publication_that_takes_time_delays_the_answer_unless_it_is_done() -> None:
    cable, recorder = Cable(channels=[Pace]), Recorder()
    await cable.application.start(recorder)
    await decided(cable.application.perform(environment(), PACE, '{"action":"publish"}'))
    recorder.gate = asyncio.Event()
    answer = cable.application.perform(environment(), PACE, '{"action":"publish"}')
    assert not isinstance(answer, Decision)
    task = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    assert not task.done()
    recorder.gate.set()
    assert (await task).verdict is Verdict.SUCCESS
    await cable.stop(1)


def test_a_publication_that_is_not_taken_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @in_loop
    async def scenario() -> None:
        cable, recorder = Cable(channels=[Pace]), Recorder()
        await cable.application.start(recorder)
        recorder.error = BackendError("away")
        decision = await decided(
            cable.application.perform(environment(), PACE, '{"action":"publish"}')
        )
        assert decision.verdict is Verdict.SUCCESS
        assert caplog.messages == ["A publication was not taken: away"]
        cable.broadcast("chat", "x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert caplog.messages == ["A publication was not taken: away"] * 2
        with pytest.raises(BackendError):
            await cable.broadcast("chat", "the caller is told by what is raised")
        await cable.stop(1)

    scenario()
    assert len(caplog.messages) == 2


# Threads


@in_loop
async def test_plain_functions_run_beside_each_other_and_hold_nobody() -> None:
    cable = Cable(channels=[Pace], threads=2)
    slow = [
        asyncio.ensure_future(
            decided(
                cable.application.perform(environment(f"s{number}"), PACE, '{"action":"blocking"}')
            )
        )
        for number in range(3)
    ]
    await asyncio.sleep(0)
    quick = await decided(cable.application.perform(environment(), PACE, '{"action":"later"}'))
    assert quick.replies
    assert not any(each.done() for each in slow)
    Pace.door.set()
    await asyncio.gather(*slow)
    assert Pace.heard == ["blocked"] * 3
    await cable.stop(1)


@in_loop
async def test_who_waits_for_a_thread_and_leaves_is_never_called() -> None:
    cable = Cable(channels=[Pace], threads=1)
    first, second = (
        asyncio.ensure_future(
            decided(cable.application.perform(environment(sid), PACE, '{"action":"blocking"}'))
        )
        for sid in ("a", "b")
    )
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    Pace.door.set()
    await first
    assert Pace.heard == ["blocked"]
    await cable.stop(1)


_asked_by: ContextVar[str] = ContextVar("asked_by", default="nobody")


@in_loop
async def test_context_variables_reach_the_threads() -> None:
    class Curious(Channel):
        @action
        def tell(self) -> None:
            self.transmit(_asked_by.get())

    served = TestCable(Cable(channels=[Curious]))
    curious = await (await served.connect()).subscribe(Curious)
    _asked_by.set("jack")
    await curious.perform("tell")
    curious.assert_transmitted("jack")
    served.close()


class Trodden(Channel):
    steps: ClassVar[list[tuple[str, bool]]] = []

    @classmethod
    @contextmanager
    def around(cls) -> Iterator[None]:
        cls.note("in")
        try:
            yield
        finally:
            cls.note("out")

    @classmethod
    def note(cls, step: str) -> None:
        cls.steps.append((step, threading.current_thread() is threading.main_thread()))

    @action
    def plain(self) -> None:
        self.note("plain")

    @action
    async def waiting(self) -> None:
        await asyncio.sleep(0)
        self.note("waiting")

    @action
    async def at_once(self) -> None:
        self.note("at once")

    @action
    async def failing(self) -> None:
        await asyncio.sleep(0)
        raise LookupError

    @rescue_from(LookupError)
    def rescued(self, error: LookupError) -> None:
        self.note("rescued")


@in_loop
async def test_what_may_wait_has_something_around_it_where_it_runs() -> None:
    cable = Cable(channels=[Trodden], around=Trodden.around)
    for name, expected in {
        "plain": [("in", False), ("plain", False), ("out", False)],
        "waiting": [("in", True), ("waiting", True), ("out", True)],
        "at_once": [("in", True), ("at once", True), ("out", True)],
        "failing": [
            ("in", True),
            ("out", True),
            ("in", False),
            ("rescued", False),
            ("out", False),
        ],
    }.items():
        data = json.dumps({"action": name})
        await decided(
            cable.application.perform(environment(), Identifier('{"channel":"Trodden"}'), data)
        )
        assert Trodden.steps == expected
        Trodden.steps.clear()
    cable.application.release()


@pytest.mark.parametrize("wait", [False, True])
def test_who_holds_the_loop_is_named(wait: bool, caplog: pytest.LogCaptureFixture) -> None:
    @in_loop
    async def scenario() -> None:
        cable = Cable(channels=[Pace], slow_ms=20)
        data = json.dumps({"action": "hold_the_loop", "wait": wait})
        await decided(cable.application.perform(environment(), PACE, data))
        await decided(cable.application.perform(environment(), PACE, '{"action":"later"}'))
        assert cable.application.slow_total == 1

    scenario()
    assert "Pace.hold_the_loop held the loop for" in caplog.text


# Publishing from everywhere


@in_loop
async def test_any_thread_and_any_loop_may_publish() -> None:
    cable, recorder = Cable(channels=[Pace]), Recorder()
    await cable.application.start(recorder)
    cable.broadcast("a", 1)

    def elsewhere() -> None:
        cable.broadcast("b", 2)
        asyncio.run(another_loop())

    async def another_loop() -> None:
        await cable.broadcast("c", 3, exclude_socket="s9", transient=True)

    await asyncio.to_thread(elsewhere)
    assert recorder.threads == {threading.get_ident()}, "the server's loop has one thread"
    assert recorder.taken == [
        b'{"stream":"a","data":"1"}',
        b'{"stream":"b","data":"2"}',
        b'{"stream":"c","data":"3","meta":{"exclude_socket":"s9","transient":true}}',
    ]
    await cable.stop(1)


@in_loop
async def test_a_batch_goes_out_as_one_unless_its_block_raises() -> None:
    cable, recorder = Cable(channels=[Pace]), Recorder()
    await cable.application.start(recorder)
    with cable.batch():
        cable.broadcast("a", 1)
        Pace.broadcast_to(7, {"b": 2})
        assert recorder.taken == []
    with pytest.raises(TypeError):  # noqa: PT012, SIM117  (which of the two raises is the point)
        with cable.batch():
            cable.broadcast("a", 3)
            cable.broadcast("a", object())
    with cable.batch():
        pass
    assert recorder.taken == [
        b'[{"stream":"a","data":"1"},{"stream":"Pace:7","data":"{\\"b\\":2}"}]'
    ]
    await cable.stop(1)


def test_without_a_server_a_publisher_of_its_own_is_asked() -> None:
    recorder = Recorder()
    publisher: Publisher = recorder
    cable = Cable(channels=[Pace], publisher=publisher)
    cable.broadcast("a", 1)
    assert recorder.taken == [b'{"stream":"a","data":"1"}']


def test_what_json_can_not_carry_is_refused_where_it_is_said() -> None:
    cable = Cable(channels=[Pace], publisher=Recorder())
    with pytest.raises(TypeError):
        cable.broadcast("a", object())


# Clients that leave meanwhile


class Pair(Channel):
    """``subscribed`` and ``unsubscribed`` belong together."""

    counted: ClassVar[list[str]] = []
    gate: ClassVar[asyncio.Event]
    door: ClassVar[threading.Event]

    def subscribed(self) -> None:
        self.door.wait(5)
        self.counted.append("+")

    async def unsubscribed(self) -> None:
        await self.gate.wait()
        self.counted.append("-")


PAIR = Identifier('{"channel":"Pair"}')


@pytest.fixture
def pair() -> Cable:
    Pair.counted.clear()
    Pair.door = threading.Event()
    return Cable(channels=[Pair])


async def cancelled(answer: Decision | Awaitable[Decision]) -> "asyncio.Task[Decision]":
    """Begins to wait, and is told not to."""
    assert not isinstance(answer, Decision)
    task = asyncio.get_running_loop().create_task(_wait(answer))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    return task


async def _wait(answer: Awaitable[Decision]) -> Decision:
    return await answer


def test_who_leaves_while_it_subscribes_is_unsubscribed_at_once(pair: Cable) -> None:
    @in_loop
    async def scenario() -> None:
        Pair.gate = asyncio.Event()
        Pair.gate.set()
        task = await cancelled(pair.application.subscribe(environment(), PAIR))
        Pair.door.set()
        await asyncio.wait([task])
        await pair.application.disconnect(environment(), ())
        await pair.stop(5)
        assert Pair.counted == ["+", "-"]

    scenario()


def test_who_leaves_while_it_unsubscribes_is_unsubscribed_once(pair: Cable) -> None:
    @in_loop
    async def scenario() -> None:
        Pair.gate = asyncio.Event()
        Pair.door.set()
        await decided(pair.application.subscribe(environment(), PAIR))
        task = await cancelled(pair.application.unsubscribe(environment(), PAIR))
        await asyncio.wait([task])
        # The node did not hear the answer: for it, the subscription was there until the end.
        Pair.gate.set()
        await pair.application.disconnect(environment(), (PAIR,))
        await pair.stop(5)
        assert Pair.counted == ["+", "-"]

    scenario()


@pytest.mark.parametrize(("later_s", "times"), [(1, 1), (10, 2)])
def test_behind_rpc_an_end_that_was_told_long_ago_may_be_another(later_s: int, times: int) -> None:
    @in_loop
    async def scenario() -> None:
        now = [100.0]
        Pair.counted.clear()
        Pair.gate = asyncio.Event()
        Pair.gate.set()
        cable = Cable(channels=[Pair], clock=lambda: now[0])
        await decided(cable.application.unsubscribe(environment(), PAIR))
        # Meanwhile another process may have let the client in again.
        now[0] += later_s
        await cable.application.disconnect(environment(), (PAIR,))
        assert Pair.counted == ["-"] * times

    scenario()


@in_loop
async def test_what_waits_is_cancelled_where_it_waits() -> None:
    class Patient(Channel):
        @action
        async def wait(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard.append("cancelled")
                raise

        @callback.before_subscribe
        async def check(self) -> None: ...

    heard: list[str] = []
    cable = Cable(channels=[Patient])
    place = Identifier('{"channel":"Patient"}')
    task = await cancelled(cable.application.perform(environment(), place, '{"action":"wait"}'))
    await asyncio.wait([task])
    assert (task.cancelled(), heard) == (True, ["cancelled"])


def test_a_wait_that_was_cancelled_elsewhere_is_an_error_of_this_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Disappointed(Channel):
        @action
        async def wait(self) -> None:
            hope = asyncio.get_running_loop().create_future()
            hope.cancel()
            await hope

    @in_loop
    async def scenario() -> None:
        cable = Cable(channels=[Disappointed])
        place = Identifier('{"channel":"Disappointed"}')
        decision = await decided(
            cable.application.perform(environment(), place, '{"action":"wait"}')
        )
        assert decision.verdict is Verdict.ERROR

    scenario()
    assert "sid=s1 Disappointed.wait failed" in caplog.text


@pytest.mark.parametrize("way", ["at_once", "later", "in_a_thread"])
def test_sys_exit_ends_its_call_and_not_the_server(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Leaving(Channel):
        @action
        async def at_once(self) -> None:
            sys.exit(3)

        @action
        async def later(self) -> None:
            await asyncio.sleep(0)
            sys.exit(3)

        @action
        def in_a_thread(self) -> None:
            sys.exit(3)

    @in_loop
    async def scenario() -> None:
        cable = Cable(channels=[Leaving])
        place = Identifier('{"channel":"Leaving"}')
        command = f'{{"action":"{way}"}}'
        decision = await decided(cable.application.perform(environment(), place, command))
        assert decision.verdict is Verdict.ERROR

    scenario()
    assert f"sid=s1 Leaving.{way} failed" in caplog.text
    assert "sys.exit(3)\n" in caplog.text, "the traceback says where"


def test_who_is_told_of_errors_may_fail_itself(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Channel):
        @action
        async def fail(self) -> None:
            raise LookupError("on purpose")

    def tell(sid: str, name: str, error: Exception) -> None:
        told.append((sid, name, str(error)))
        raise OSError("no network")

    told: list[tuple[str, str, str]] = []
    cable = Cable(channels=[Failing])
    cable.on_error.append(tell)
    place = Identifier('{"channel":"Failing"}')
    asyncio.run(
        answered(lambda: cable.application.perform(environment(), place, '{"action":"fail"}'))
    )
    assert told == [("s1", "Failing.fail", "on purpose")]
    assert "A function in Cable.on_error failed" in caplog.text
    assert "on purpose" in caplog.text


# Timers


class Clock(Channel):
    ticks: int = Channel.state(0)
    told: ClassVar[list[str]] = []

    @every(0.01)
    async def tick(self) -> None:
        self.ticks += 1
        self.told.append(f"{self.connection.sid} {self.ticks}")


CLOCK = Identifier('{"channel":"Clock"}')


class Sessions:
    """Satisfies Performer as a node does: performs at the cable, and keeps the state."""

    def __init__(self, cable: Cable) -> None:
        self.cable = cable
        self.there = {"a": environment("a"), "b": environment("b")}
        self.ticked = asyncio.Event()
        self.runs: set[asyncio.Future[None]] = set()

    def perform(self, sid: Sid, identifier: Identifier, data: str) -> bool:
        if sid not in self.there:
            return False
        run = asyncio.ensure_future(self._run(sid, identifier, data))
        self.runs.add(run)
        run.add_done_callback(self.runs.discard)
        return True

    async def _run(self, sid: Sid, identifier: Identifier, data: str) -> None:
        decision = await decided(self.cable.application.perform(self.there[sid], identifier, data))
        self.there[sid].merge_istate(identifier, decision.istate or {})
        self.ticked.set()

    async def gone(self) -> None:
        """Returns when the cable runs no timer any more: it tells nobody that they have ended."""
        while self.cable.application.timers.running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def tick(self) -> None:
        self.ticked.clear()
        await self.ticked.wait()


@in_loop
async def test_timers_run_while_their_subscription_lives() -> None:
    Clock.told.clear()
    cable = Cable(channels=[Clock])
    sessions = Sessions(cable)
    await cable.application.start(Recorder(), sessions)
    for sid in ("a", "b"):
        cable.application.subscribe(sessions.there[sid], CLOCK)
    while not {"a 2", "b 2"} <= set(Clock.told):
        await sessions.tick()
    cable.application.unsubscribe(sessions.there["b"], CLOCK)
    before = [each for each in Clock.told if each.startswith("b")]
    for _ in range(3):
        await sessions.tick()
    assert [each for each in Clock.told if each.startswith("b")] == before
    del sessions.there["a"]
    assert cable.application.timers.running == 1
    await sessions.gone()
    await cable.stop(1)


@in_loop
async def test_a_test_lets_timers_tick_itself() -> None:
    served = TestCable(Cable(channels=[Clock]))
    clock = await (await served.connect()).subscribe(Clock)
    await clock.tick("tick")
    await clock.tick("tick")
    assert Clock.told[-1] == f"{clock.connection.sid} 2"
    served.close()


# Cheap to import


def test_importing_the_package_or_the_channels_needs_no_server() -> None:
    script = (
        "import sys, catenary; assert 'msgspec' not in sys.modules; "
        "from catenary import Cable, Channel, Connection, action, callback, every, rescue_from; "
        "heavy = {'uvicorn', 'starlette', 'uvloop', 'grpc', 'httptools', 'google'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "assert not [m for m in sys.modules if m.startswith('catenary.node')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_package_says_what_it_has_not() -> None:
    import catenary

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        catenary.nothing  # type: ignore[attr-defined]  # noqa: B018
