"""Questions to the nodes of the cluster, which the directory lists (``directory.py``).

The parts of a node register what they answer. A question is sent to each node separately, so that the missing
answers are known; the asking node answers, too. Without other nodes (no pub/sub), a node asks itself alone.
Knows: messages between nodes, time. Does not know: what is asked, how messages travel.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec

from catenary.errors import CatenaryError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.nodes import NodeEntry
from catenary.metrics.counters import Counters
from catenary.node.background import BackgroundTasks
from catenary.node.directory import Directory
from catenary.ports import PEER_BYTES, Peers
from catenary.protocols.cluster_messages import (
    Announced,
    Answered,
    Asked,
    Left,
    Part,
    Sent,
    pack,
    unpack,
)

_log: Final = logging.getLogger("catenary.cluster")
_limited: Final = RateLimitedLogger(_log)

ANSWER_S: Final = 2.0
"""How long an answer may take."""

QUESTION_BYTES: Final = PEER_BYTES - 1024
"""Longest body of a question, and of a message without an answer: it must fit one message between nodes."""

PART_BYTES: Final = 262_144
"""Longest part of an answer: a longer answer is sent in several messages."""

ANSWER_BYTES: Final = 16_777_216
"""The longest answer of one node."""

PARTS_BYTES: Final = 67_108_864
"""Limit of the incomplete answers of other nodes, all together."""

QUESTIONS: Final = 10_000
"""Questions to single nodes that may be unanswered at the same time: ten to each node of a full directory."""

ANSWERS: Final = 100
"""Questions of other nodes that may be answered at the same time."""

Handler = Callable[[bytes], bytes | Awaitable[bytes]]
"""Answers questions of one kind: the body of a question → the body of the answer. For an exception the asking node gets an
error, whose text is that of a :class:`catenary.errors.CatenaryError`."""

Receiver = Callable[[str, bytes], None]
"""Receives messages of one kind, with the id of the sending node; returns at once and never raises."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer of one node, or the ``error`` that says why there is none."""

    node: str
    body: bytes = b""
    error: str = ""


class _Question:
    """A question to another node that is not answered yet."""

    __slots__ = ("answer", "node", "parts", "size")

    def __init__(self, node: str, answer: "asyncio.Future[Answer]") -> None:
        self.node = node
        self.answer = answer
        self.parts: list[bytes] = []
        self.size = 0


class Cluster:
    """The cluster as one node sees it. ``peers`` is None for a node that is alone; ``clock`` counts seconds."""

    __slots__ = (
        "_answering",
        "_background",
        "_counters",
        "_handlers",
        "_number",
        "_parts_bytes",
        "_peers",
        "_questions",
        "_receivers",
        "directory",
        "nodes",
        "own",
    )

    def __init__(
        self,
        own: NodeEntry,
        peers: Peers | None,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self.own: Final = own
        self._peers = peers
        self._counters = counters
        self.directory: Final = Directory(own, peers, counters, clock, self._conclude_all)
        self.nodes = self.directory.nodes
        self._handlers: dict[str, Handler] = {}
        self._receivers: dict[str, Receiver] = {}
        self._background = BackgroundTasks()
        # To other nodes, by number
        self._number = 0
        self._questions: dict[int, _Question] = {}
        self._parts_bytes = 0
        # Of other nodes
        self._answering = 0
        if peers is not None:
            peers.on_message = self._take

    async def start(self) -> None:
        """Announces this node."""
        self.directory.announce_again()

    async def leave(self, timeout_s: float) -> None:
        """Says goodbye to the other nodes."""
        self.directory.leave()

    def _conclude_all(self, node: str, why: str) -> None:
        """A node has ended: it answers no more."""
        for number in [each for each, asked in self._questions.items() if asked.node == node]:
            self._conclude(number, error=why)

    # Asking

    def answer(self, kind: str, handler: Handler) -> None:
        """Answers questions of this kind, those of this node included. Raises ValueError if the kind is taken."""
        if kind in self._handlers:
            raise ValueError(f"questions of the kind {kind} are answered already")
        self._handlers[kind] = handler

    @property
    def unanswered_num(self) -> int:
        """Number of questions to other nodes that are not answered yet, at most :data:`QUESTIONS`."""
        return len(self._questions)

    @property
    def answering_num(self) -> int:
        """Number of questions of other nodes that are being answered, at most :data:`ANSWERS`."""
        return self._answering

    async def ask(
        self,
        kind: str,
        question: bytes = b"",
        nodes: Collection[str] | None = None,
        timeout_s: float = ANSWER_S,
        *,
        is_enough: Callable[[Answer], bool] | None = None,
    ) -> list[Answer]:
        """Asks nodes, all if ``nodes`` (ids) is None, and returns an answer or an error for each of them, in the order of
        :meth:`nodes`, within ``timeout_s``. Raises ValueError for a question over :data:`QUESTION_BYTES`.

        When ``is_enough`` is true of an answer, that one is returned alone, and the others are not waited for."""
        if len(question) > QUESTION_BYTES:
            raise ValueError(f"expected a question of up to {QUESTION_BYTES} bytes")
        asked = [each.id for each in self.nodes() if nodes is None or each.id in nodes]
        unknown = [] if nodes is None else [each for each in nodes if each not in asked]
        numbers: dict[str, int] = {}
        answers: dict[str, asyncio.Future[Answer]] = {}
        for node in asked:
            if node == self.own.id:
                answers[node] = asyncio.ensure_future(self._answer_locally(kind, question))
            else:
                answers[node], numbers[node] = self._send_question(node, kind, question)
        if answers:
            try:
                enough = await self._wait(answers.values(), timeout_s, is_enough)
            finally:
                for node, each in answers.items():
                    if not each.done():
                        self._give_up(numbers.get(node, 0), each)
            if enough is not None:
                return [enough]
        late = f"no answer within {timeout_s:g} s"
        found: list[Answer] = []
        for node, each in answers.items():
            is_late = each.cancelled() or not each.done()
            self._counters.cluster_unanswered_total += is_late
            found.append(Answer(node, error=late) if is_late else each.result())
        return found + [Answer(each, error="no such node") for each in unknown]

    async def _wait(
        self,
        answers: Collection["asyncio.Future[Answer]"],
        timeout_s: float,
        is_enough: Callable[[Answer], bool] | None,
    ) -> Answer | None:
        """Waits for all answers, or returns the first that is enough."""
        if is_enough is None:
            await asyncio.wait(answers, timeout=timeout_s)
            return None
        loop = asyncio.get_running_loop()
        deadline, waiting = loop.time() + timeout_s, set(answers)
        while waiting and (left := deadline - loop.time()) > 0:
            done, waiting = await asyncio.wait(
                waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            for each in done:
                if is_enough(each.result()):
                    return each.result()
        return None

    def _send_question(
        self, node: str, kind: str, question: bytes
    ) -> "tuple[asyncio.Future[Answer], int]":
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._peers is None or len(self._questions) >= QUESTIONS:
            self._counters.cluster_refused_questions_total += 1
            answer.set_result(Answer(node, error="too many questions are unanswered"))
            return answer, 0
        if self.directory.is_cut_off:
            error = "messages between nodes do not arrive at present (see /ready)"
            answer.set_result(Answer(node, error=error))
            return answer, 0
        self._number += 1
        self._counters.cluster_questions_total += 1
        self._questions[self._number] = _Question(node, answer)
        self._peers.send_to(node, pack(Asked(self.own.id, self._number, kind, question)))
        return answer, self._number

    def _give_up(self, number: int, answer: "asyncio.Future[Answer]") -> None:
        """Called when an answer is late or no longer needed."""
        question = self._questions.pop(number, None)
        if question is not None:
            self._parts_bytes -= question.size
        answer.cancel()

    async def _answer_locally(self, kind: str, question: bytes) -> Answer:
        try:
            return Answer(self.own.id, await self._handle(kind, question))
        except CatenaryError as error:
            return Answer(self.own.id, error=str(error))
        except Exception:  # noqa: BLE001  (a fault of one handler concerns its question alone)
            _limited.exception("A question of the kind %s failed", kind)
            return Answer(self.own.id, error="the node has failed to answer")

    async def _handle(self, kind: str, question: bytes) -> bytes:
        handler = self._handlers.get(kind)
        if handler is None:
            raise CatenaryError(f"the node ({self.own.version}) answers no question of this kind")
        answer = handler(question)
        body = answer if isinstance(answer, bytes) else await answer
        if len(body) > ANSWER_BYTES:
            raise CatenaryError(f"the answer exceeds {ANSWER_BYTES} bytes")
        return body

    # Messages without an answer

    def receive(self, kind: str, receiver: Receiver) -> None:
        """Registers a receiver of messages of this kind. Raises ValueError if the kind is taken."""
        if kind in self._receivers:
            raise ValueError(f"messages of the kind {kind} are received already")
        self._receivers[kind] = receiver

    def send(self, node: str, kind: str, body: bytes) -> None:
        """Sends a message of up to :data:`QUESTION_BYTES` to a node, this one included; it is lost if either is away."""
        if node == self.own.id:
            asyncio.get_running_loop().call_soon(self._deliver, node, kind, body)
        elif self._peers is not None:
            self._peers.send_to(node, pack(Sent(self.own.id, kind, body)))

    def _deliver(self, node: str, kind: str, body: bytes) -> None:
        receiver = self._receivers.get(kind)
        if receiver is not None:
            receiver(node, body)

    # Messages of other nodes

    def _take(self, packed: bytes) -> None:
        try:
            message = unpack(packed)
        except ValueError as error:
            # A later version may send messages that this one does not know.
            _limited.log(logging.DEBUG, "Unknown message from another node: %s", error)
            return
        if isinstance(message, Announced):
            self.directory.note_announcement(message)
        elif message.node != self.own.id:
            self._take_message(message)

    def _take_message(self, message: Left | Asked | Part | Answered | Sent) -> None:
        match message:
            case Left():
                self.directory.note_goodbye(message.node)
            case Asked():
                self._take_question(message)
            case Part():
                self._take_part(message)
            case Answered():
                self._take_answer(message)
            case Sent():
                self._deliver(message.node, message.kind, message.body)

    def _take_question(self, asked: Asked) -> None:
        if self._answering >= ANSWERS:
            self._counters.cluster_refused_questions_total += 1
            error = "the node answers too many questions at the moment"
            self._send(asked.node, Answered(self.own.id, asked.number, 0, error))
            return
        self._answering += 1
        self._background.run(self._send_answer(asked))

    async def _send_answer(self, asked: Asked) -> None:
        try:
            answer = await self._answer_locally(asked.kind, asked.body)
        finally:
            self._answering -= 1
        body = answer.body
        for start in range(0, len(body), PART_BYTES):
            self._send(
                asked.node, Part(self.own.id, asked.number, body[start : start + PART_BYTES])
            )
            await asyncio.sleep(0)
        self._send(asked.node, Answered(self.own.id, asked.number, len(body), answer.error))

    def _send(self, node: str, message: Asked | Part | Answered) -> None:
        if self._peers is not None:
            self._peers.send_to(node, pack(message))

    def _take_part(self, part: Part) -> None:
        question = self._questions.get(part.number)
        if question is None or question.node != part.node:
            return
        question.parts.append(part.body)
        question.size += len(part.body)
        self._parts_bytes += len(part.body)
        if question.size > ANSWER_BYTES or self._parts_bytes > PARTS_BYTES:
            self._counters.cluster_refused_questions_total += 1
            self._conclude(part.number, error="too many bytes of answers wait")

    def _take_answer(self, answered: Answered) -> None:
        question = self._questions.get(answered.number)
        if question is None or question.node != answered.node:
            return
        error = answered.error
        if not error and question.size != answered.size:
            error = "a part of the answer was lost"
        self._conclude(answered.number, error)

    def _conclude(self, number: int, error: str) -> None:
        question = self._questions.pop(number)
        self._parts_bytes -= question.size
        if not question.answer.done():
            body = b"" if error else b"".join(question.parts)
            question.answer.set_result(Answer(question.node, body, error))
