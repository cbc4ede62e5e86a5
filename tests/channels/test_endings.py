"""What is remembered of subscriptions that have ended."""

import tracemalloc

from catenary.channels.endings import LIMIT, Endings
from catenary.channels.timers import Place
from catenary.messages.names import Identifier, Sid


def place(number: int, size: int = 1) -> Place:
    return Place(Sid(f"sid{number}"), Identifier(f"{number}".rjust(size, "x")))


def test_an_ending_is_known_until_it_is_forgotten() -> None:
    endings = Endings()
    endings.note(place(1), 7.5)
    assert endings.forget(place(2)) is None
    assert endings.forget(place(1)) == 7.5
    assert endings.forget(place(1)) is None


def test_the_last_ones_are_known_and_the_first_are_not() -> None:
    endings = Endings()
    for number in range(3 * LIMIT):
        endings.note(place(number), number)
    assert all(endings.forget(place(number)) == number for number in range(2 * LIMIT, 3 * LIMIT))
    assert endings.forget(place(LIMIT - 1)) is None


def test_one_that_was_noted_again_is_forgotten_at_once() -> None:
    endings = Endings()
    endings.note(place(0), 1)
    for number in range(1, LIMIT + 1):
        endings.note(place(number), 2)
    endings.note(place(0), 3)
    assert endings.forget(place(0)) == 3
    assert endings.forget(place(0)) is None


def test_clients_can_not_fill_the_memory_with_long_identifiers() -> None:
    tracemalloc.start()
    endings = Endings()
    for number in range(3 * LIMIT):
        endings.note(place(number, size=8_000), 1.5 * number)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * LIMIT * 200
