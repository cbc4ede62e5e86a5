"""Pauses that double, and which failures of an outage are logged."""

from catenary.supervision.backoff import MAX_DELAY_S, STEADY_S, Backoff, delay_s


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def logged(backoff: Backoff, failures: int) -> list[int]:
    """The numbers of the logged failures, of so many in a row."""
    pauses = [backoff.failed() for _ in range(failures)]
    return [pause.failures for pause in pauses if pause.is_logged]


def test_the_pause_grows_to_its_limit_and_differs_between_nodes() -> None:
    pauses = [delay_s(attempt) for attempt in range(2000)]
    assert 0.07 < pauses[0] < 0.13
    assert pauses[0] < pauses[2] < pauses[4] < pauses[7]
    assert all(pause <= MAX_DELAY_S * 1.25 for pause in pauses)
    assert len(set(pauses[100:])) > 100


def test_an_outage_of_a_day_costs_a_dozen_lines() -> None:
    assert logged(Backoff(), 24 * 3600 // 5) == [1, *(2**n for n in range(3, 15))]


def test_a_limit_of_its_own() -> None:
    backoff = Backoff(longest_s=0.4)
    assert max(backoff.failed().seconds for _ in range(20)) <= 0.4 * 1.25


def test_what_has_worked_for_a_while_begins_a_new_row() -> None:
    clock = Clock()
    backoff = Backoff(clock=clock)
    assert logged(backoff, 3) == [1]
    assert backoff.works()
    clock.now += STEADY_S
    pause = backoff.failed()
    assert (pause.failures, pause.is_logged) == (1, True)
    assert pause.seconds < 0.13


def test_what_breaks_at_once_again_and_again_is_one_row() -> None:
    clock = Clock()
    backoff = Backoff(clock=clock)
    lines = []
    for _ in range(40):
        lines.append(("works", backoff.works()))
        clock.now += STEADY_S / 2
        pause = backoff.failed()
        clock.now += pause.seconds
        lines.append(("fails", pause.is_logged))
    # Failures 1 to 8, 16 and 32, each with the success after it.
    assert [word for word, is_logged in lines if is_logged] == ["works", *(["fails", "works"] * 10)]
    assert pause.seconds > MAX_DELAY_S / 2


def test_progress_shortens_the_pause_and_logs_nothing_more() -> None:
    clock = Clock()
    backoff = Backoff(clock=clock)
    assert logged(backoff, 6) == [1]
    backoff.progressed()
    pause = backoff.failed()
    assert pause.seconds < 0.13
    assert not pause.is_logged
    assert pause.failures == 7
