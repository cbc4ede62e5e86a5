"""Questions of one connection to NATS: each is answered once, whatever comes."""

from catenary.adapters.nats.questions import Nobody, Questions
from catenary.errors import BackendError

NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"
END = b"NATS/1.0 204 EOB\r\n\r\n"


class Answers:
    """What one question has heard: payloads, and errors."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.errors: list[BackendError] = []

    def __call__(self, _headers: bytes, payload: bytes, error: BackendError | None) -> None:
        if error is None:
            self.heard.append(payload)
        else:
            self.errors.append(error)


def ask(
    questions: Questions, deadline: float = 1.0, *, is_long: bool = False, subject: str = "s"
) -> tuple[bytes, Answers]:
    answers = Answers()
    return questions.ask(subject, answers, deadline, is_long=is_long).encode(), answers


def test_an_answer_belongs_to_its_question_and_comes_once() -> None:
    questions = Questions()
    (first, one), (second, two) = ask(questions), ask(questions)
    assert first != second
    for _ in range(2):
        questions.hear(second, b"", b"b")
    questions.hear(first, b"", b"a")
    questions.hear(first + b"0", b"", b"nobody's")
    assert (one.heard, two.heard) == ([b"a"], [b"b"])


def test_a_long_answer_ends_with_a_status() -> None:
    questions = Questions()
    subject, answers = ask(questions, is_long=True)
    for payload in (b"1", b"2"):
        questions.hear(subject, b"", payload)
    questions.hear(subject, END, b"")
    questions.hear(subject, b"", b"3")
    assert answers.heard == [b"1", b"2", b""]


def test_where_nobody_listens_the_question_ends() -> None:
    questions = Questions()
    for is_long in (False, True):
        subject, answers = ask(questions, is_long=is_long)
        questions.hear(subject, NO_RESPONDERS, b"")
        questions.end_all(BackendError("gone"))
        assert [type(each) for each in answers.errors] == [Nobody]


def test_who_is_late_ends_and_the_others_do_not() -> None:
    questions = Questions()
    late = BackendError("late")
    (_, one), (_, two) = ask(questions, 1.0), ask(questions, 2.0)
    questions.end_late(0.9, late)
    assert one.errors == []
    questions.end_late(1.0, late)
    assert (one.errors, two.errors) == ([late], [])
    questions.postpone(5.0)
    questions.end_late(4.9, late)
    assert two.errors == []


def test_at_the_end_all_end_and_one_that_asks_again_is_not_ended_with_them() -> None:
    questions = Questions()
    gone = BackendError("gone")
    again = Answers()

    def ask_again(_headers: bytes, _payload: bytes, error: BackendError | None) -> None:
        assert error is gone
        questions.ask("s", again, 1.0, is_long=False)

    questions.ask("s", ask_again, 1.0, is_long=False)
    _, other = ask(questions)
    questions.end_all(gone)
    assert other.errors == [gone]
    assert again.errors == []
    assert questions.asked_total == 3
