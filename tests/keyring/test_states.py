"""The table of key states, walked whole."""

import itertools

import pytest

from broker.keyring.states import COUNTING_STATES, IDLE_STATES, TRANSITIONS, KeyInput, KeyState

A, O, P, X, S, L, Q, D = KeyState  # noqa: E741 - one letter a state keeps the table a table
# One row a state, one column an input, in the order of KeyInput: plugged opened proved failed gave_up rejected unplugged
# clone_proven disabled enabled forgotten. Written out by hand, so that a changed table has to be changed here as well.
EXPECTED = {
    A: (O, A, A, A, A, A, A, A, D, A, A),
    O: (O, P, O, S, L, L, L, Q, D, O, O),
    P: (O, P, X, S, L, L, L, Q, D, P, P),
    X: (O, P, X, S, L, L, L, Q, D, X, X),
    S: (O, P, X, S, L, L, L, Q, D, S, S),
    L: (O, P, L, L, L, L, L, Q, D, L, A),
    Q: (Q, Q, Q, Q, Q, Q, Q, Q, D, A, Q),
    D: (D, D, D, D, D, D, D, D, D, A, D),
}


@pytest.mark.parametrize(("state", "word"), list(itertools.product(KeyState, KeyInput)))
def test_every_input_in_every_state_leads_where_it_should(state: KeyState, word: KeyInput) -> None:
    assert TRANSITIONS[state][word] is EXPECTED[state][list(KeyInput).index(word)]


def test_only_a_proof_on_an_open_connection_makes_a_key_count() -> None:
    ways = {(state, word) for state, row in TRANSITIONS.items() for word, after in row.items() if after is X}
    # What remains present through inputs that mean nothing to it is not a way in.
    assert {word for state, word in ways if state is not X} == {KeyInput.PROVED}
    assert {state for state, word in ways if word is KeyInput.PROVED} == {P, X, S}


def test_no_loss_leaves_a_key_counting() -> None:
    losses = (
        KeyInput.GAVE_UP,
        KeyInput.REJECTED,
        KeyInput.UNPLUGGED,
        KeyInput.CLONE_PROVEN,
        KeyInput.DISABLED,
    )
    for state, word in itertools.product(KeyState, losses):
        assert TRANSITIONS[state][word] not in COUNTING_STATES


def test_only_an_admin_leads_out_of_quarantine_and_of_being_disabled() -> None:
    for state, word in itertools.product(IDLE_STATES, KeyInput):
        if TRANSITIONS[state][word] not in IDLE_STATES:
            assert word is KeyInput.ENABLED


def test_every_state_can_be_reached_from_absent() -> None:
    reached, fresh = set(), {A}
    while fresh:
        reached |= fresh
        fresh = {after for state in fresh for after in TRANSITIONS[state].values()} - reached
    assert reached == set(KeyState)
