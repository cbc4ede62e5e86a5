"""Who may find out that the application is back."""

from catenary.rpc.outage import Outage


def test_a_young_outage_admits_everybody() -> None:
    outage = Outage(patience_s=3)
    assert outage.begin(now=10)
    assert not outage.begin(now=11)
    assert all(outage.admits(12.9) for _ in range(3))


def test_an_old_outage_admits_one_at_a_time() -> None:
    outage = Outage(patience_s=3)
    outage.begin(now=10)
    assert outage.admits(13)
    assert not outage.admits(13)
    outage.settle()
    assert outage.admits(14)
    outage.begin(14)
    assert outage.is_old(14)  # it goes on: a failed probe does not make it young


def test_an_answer_ends_it() -> None:
    outage = Outage(patience_s=3)
    outage.begin(now=10)
    assert outage.end()
    assert not outage.end()
    assert all(outage.admits(20) for _ in range(3))
