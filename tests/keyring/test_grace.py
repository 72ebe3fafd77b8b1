"""The grace budget of a key: 300 s an hour, counted from the last good proof, filled again by presence alone."""

from hypothesis import given
from hypothesis import strategies as st

from broker.keyring import GraceBudget

S = 1_000_000_000
HOUR_NS = 3_600 * S
TTL_NS = 90 * S
REPROOF_NS = 45 * S


def full() -> GraceBudget:
    return GraceBudget.full(limit_ns=300 * S, refill_ns=HOUR_NS, proof_ttl_ns=TTL_NS)


def present(budget: GraceBudget, from_ns: int, until_ns: int) -> GraceBudget:
    """A key that is present and asked regularly."""
    for at_ns in range(from_ns, until_ns + 1, REPROOF_NS):
        budget = budget.proved(at_ns)
    return budget


def test_a_key_that_never_proved_has_no_grace_to_give() -> None:
    assert full().deadline_ns(1_000 * S) == 1_000 * S


def test_grace_is_counted_from_the_last_good_proof_and_not_from_the_loss() -> None:
    budget = full().proved(100 * S).lost()
    assert budget.deadline_ns(150 * S) == 400 * S
    assert budget.remaining_ns(150 * S) == 250 * S
    assert budget.remaining_ns(900 * S) == 0


def test_what_an_absence_took_is_not_given_back_by_the_return() -> None:
    budget = full().proved(0).lost().proved(120 * S)
    assert budget.left_ns == 180 * S
    assert budget.lost().deadline_ns(0) == 300 * S


def test_a_key_that_was_away_too_long_has_nothing_left() -> None:
    budget = full().proved(0).lost().proved(10_000 * S)
    assert budget.left_ns == 0
    assert budget.deadline_ns(0) == 10_000 * S


def test_a_gap_between_proofs_counts_as_absence_even_if_no_unplug_was_seen() -> None:
    assert full().proved(0).proved(TTL_NS).left_ns == 300 * S
    assert full().proved(0).proved(TTL_NS + S).left_ns == (300 - 91) * S


def test_an_hour_of_presence_fills_the_budget_and_a_second_less_does_not() -> None:
    spent = full().proved(0).lost().proved(200 * S)
    until_ns = 200 * S + HOUR_NS
    assert present(spent, 200 * S, until_ns - S).left_ns == 100 * S
    assert present(spent, 200 * S, until_ns).left_ns == 300 * S


def test_an_old_proof_that_arrives_late_changes_nothing() -> None:
    budget = full().proved(100 * S)
    assert budget.proved(50 * S) == budget


def test_a_key_pulled_every_minute_earns_no_more_than_its_budget() -> None:
    budget, earned_ns = full(), 0
    for minute in range(0, 600, 2):
        budget = present(budget, minute * 60 * S, (minute * 60 + 60) * S)
        last_ns = budget.last_proof_ns
        assert last_ns is not None
        budget = budget.lost()
        earned_ns += min(budget.deadline_ns(0), (minute + 2) * 60 * S) - last_ns
    assert earned_ns == 300 * S, "ten hours of carrying a key about earn one budget"


def test_a_key_carried_between_two_brokers_earns_each_no_more_than_one_budget_an_hour() -> None:
    for away_first in (False, True):
        budget, spent = full(), []
        for minute in range(0, 300, 2):
            begin_ns = (minute + away_first) * 60 * S
            budget = present(budget, begin_ns, begin_ns + 59 * S)
            last_ns = budget.last_proof_ns
            assert last_ns is not None
            budget = budget.lost()
            spent.append(min(budget.deadline_ns(0), begin_ns + 120 * S) - last_ns)
        assert sum(spent) <= 300 * S


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 2_000)), min_size=1, max_size=30))
def test_no_hour_holds_more_grace_than_the_budget(visits: list[tuple[int, int]]) -> None:
    """Visits: seconds present, then seconds away."""
    budget, now_ns, graces = full(), 0, []
    for stay_s, away_s in visits:
        budget = present(budget, now_ns, now_ns + stay_s * S)
        last_ns = budget.last_proof_ns
        assert last_ns is not None
        now_ns += (stay_s + away_s) * S
        budget = budget.lost()
        graces.append((last_ns, min(budget.deadline_ns(0), now_ns)))
        assert 0 <= budget.left_ns <= 300 * S
    for begin_ns, _ in graces:
        window = (begin_ns, begin_ns + HOUR_NS)
        inside_ns = sum(max(0, min(end, window[1]) - max(begin, window[0])) for begin, end in graces)
        assert inside_ns <= 300 * S
