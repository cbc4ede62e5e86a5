"""PendingRequests of one connection to NATS: each is answered once, whatever comes."""

from catenary.adapters.nats.pending_requests import NoResponders, PendingRequests
from catenary.errors import BackendError

NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"
END = b"NATS/1.0 204 EOB\r\n\r\n"


class Answers:
    """The replies to one request: payloads and errors."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.errors: list[BackendError] = []

    def __call__(self, _headers: bytes, payload: bytes, error: BackendError | None) -> None:
        if error is None:
            self.heard.append(payload)
        else:
            self.errors.append(error)


def ask(
    requests: PendingRequests, deadline: float = 1.0, *, is_long: bool = False, subject: str = "s"
) -> tuple[bytes, Answers]:
    answers = Answers()
    return requests.add(subject, answers, deadline, is_long=is_long).encode(), answers


def test_an_answer_belongs_to_its_question_and_comes_once() -> None:
    requests = PendingRequests()
    (first, one), (second, two) = ask(requests), ask(requests)
    assert first != second
    for _ in range(2):
        requests.receive(second, b"", b"b")
    requests.receive(first, b"", b"a")
    requests.receive(first + b"0", b"", b"unknown")
    assert (one.heard, two.heard) == ([b"a"], [b"b"])


def test_a_long_answer_ends_with_a_status() -> None:
    requests = PendingRequests()
    subject, answers = ask(requests, is_long=True)
    for payload in (b"1", b"2"):
        requests.receive(subject, b"", payload)
    requests.receive(subject, END, b"")
    requests.receive(subject, b"", b"3")
    assert answers.heard == [b"1", b"2", b""]


def test_a_request_without_responders_ends() -> None:
    requests = PendingRequests()
    for is_long in (False, True):
        subject, answers = ask(requests, is_long=is_long)
        requests.receive(subject, NO_RESPONDERS, b"")
        requests.fail_all(BackendError("gone"))
        assert [type(each) for each in answers.errors] == [NoResponders]


def test_late_requests_end_and_others_do_not() -> None:
    requests = PendingRequests()
    late = BackendError("late")
    (_, one), (_, two) = ask(requests, 1.0), ask(requests, 2.0)
    requests.expire(0.9, late)
    assert one.errors == []
    requests.expire(1.0, late)
    assert (one.errors, two.errors) == ([late], [])
    requests.postpone(5.0)
    requests.expire(4.9, late)
    assert two.errors == []


def test_at_the_end_all_end_and_one_that_asks_again_is_not_ended_with_them() -> None:
    requests = PendingRequests()
    gone = BackendError("gone")
    again = Answers()

    def ask_again(_headers: bytes, _payload: bytes, error: BackendError | None) -> None:
        assert error is gone
        requests.add("s", again, 1.0, is_long=False)

    requests.add("s", ask_again, 1.0, is_long=False)
    _, other = ask(requests)
    requests.fail_all(gone)
    assert other.errors == [gone]
    assert again.errors == []
    assert requests.requests_total == 3
