"""Events of many keys in each second."""

from catenary.node.rates import Rates


def test_each_key_has_a_limit_in_each_second() -> None:
    rates = Rates()
    assert [rates.excess("a", 2, 5.0 + at / 10) for at in range(4)] == [0, 0, 1, 2]
    assert rates.excess("b", 2, 5.9) == 0
    assert [rates.excess("a", 2, 6.0) for _ in range(3)] == [0, 0, 1]


def test_keys_of_an_earlier_second_are_forgotten() -> None:
    """A spray of addresses costs memory for a second only."""
    rates = Rates()
    for number in range(1000):
        rates.excess(str(number), 2, 5.0)
    assert len(rates) == 1000
    rates.excess("a", 2, 6.0)
    assert len(rates) == 1
