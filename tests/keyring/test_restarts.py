"""Keys over restarts: what is spent stays spent, what stood is waited for, and no restart makes grace."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.keyring import KeyState, MemoryFull, VolatileMemory
from broker.keyring.records import Fault, FaultKind, Identity
from broker.keyring.remembered import read_remembered
from broker.licence import Licence
from broker.model.words import EndReason

from .conftest import NOW_UNIX_S
from .lives import Lives, S
from .test_capacity import a_licence

HOUR_NS = 3_600 * S


def licence(name: str = "L-1", thumbprint: str = "T", seats: int = 10, **points: object) -> Licence:
    return a_licence(name, thumbprint, seats, **points)


def living(*licences: Licence) -> Lives:
    """A broker whose key T has been there for a minute."""
    lives = Lives(list(licences) or [licence()])
    lives.plug("T")
    lives.wait(61)
    assert lives.sink.seats("platform") > 0
    return lives


# --- a restart -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_key_that_is_still_there_pays_for_the_wait_alone(is_clean: bool) -> None:
    lives = living()
    lives.silent.add("T")
    lives.restart(is_clean=is_clean)
    assert lives.sink.starting == {0}
    assert lives.record("T").code == "awaited"
    lives.wait(3)
    lives.silent.clear()
    lives.step(0)
    assert lives.sink.seats("platform") == 10
    assert lives.sink.starting == set()
    assert lives.record("T").budget.left_ns == 297 * S


def test_seats_that_stood_are_in_grace_before_anything_is_granted_or_ended() -> None:
    lives = living()
    lives.restart(is_clean=True)
    kinds = [call[0] for call in lives.sink.calls]
    assert kinds[:3] == ["starting", "lapse", "prove"], "the pool is starting first, and the key heals the same source"


def test_after_a_clean_stop_grace_runs_from_the_last_proof() -> None:
    lives = living()
    lives.wait(10)  # proven at 0 and 46: the bench asks after 45 s
    lives.unplug()
    lives.engine.end(lives.now_ns)
    lives.begin()
    age_ns = lives.now_ns - 46 * S
    assert lives.grace_ns("T") == 300 * S - age_ns
    assert lives.sink.starting == set(), "nothing is plugged in, so there is nothing to wait for"
    assert (lives.record("T").state, lives.record("T").code) == (KeyState.LOST, "not_back")


def test_after_a_crash_the_last_proof_counts_as_just_ending() -> None:
    lives = living()
    lives.unplug()
    lives.begin()
    assert lives.grace_ns("T") == (300 - 90) * S


def test_a_boot_in_between_changes_nothing() -> None:
    lives = living()
    lives.unplug()
    lives.step(0)
    lives.wait(100)
    left_ns = lives.grace_ns("T")
    lives.restart(is_clean=True, boot_ns=5 * S)
    assert lives.grace_ns("T") == pytest.approx(left_ns, abs=S)
    lives.wait(1)
    assert lives.record("T").budget.remaining_ns(lives.now_ns) < left_ns


def test_a_key_that_was_lost_goes_on_spending_what_it_had_left() -> None:
    lives = living()
    lives.unplug()
    lives.wait(100)
    for _ in range(3):
        left_ns = lives.grace_ns("T")
        lives.begin()
        assert left_ns - 12 * S <= lives.grace_ns("T") <= left_ns, "at most what was written ahead is lost by a crash"
        lives.wait(1)


def test_a_loop_of_crashes_without_the_key_spends_one_budget_once() -> None:
    lives = living()
    lives.unplug()
    covered_s = 0
    for _ in range(400):
        lives.begin()
        lives.wait(2)
        covered_s += 2 if lives.grace_ns("T") > 0 or lives.sink.starting else 0
    assert 0 < covered_s <= 300
    assert lives.sink.sources == {}


def test_an_hour_of_presence_is_not_begun_before_a_restart_and_ended_after_it() -> None:
    lives = living()
    lives.unplug()
    lives.wait(100)
    lives.plug("T")
    lives.wait(1_800)
    left_ns = lives.record("T").budget.left_ns
    assert left_ns < 300 * S
    lives.restart(is_clean=True)
    lives.wait(1_900)
    assert lives.record("T").budget.left_ns == left_ns
    lives.wait(1_800)
    assert lives.record("T").budget.left_ns == 300 * S
    lives.restart(is_clean=False)
    assert lives.record("T").budget.left_ns == 300 * S


def test_a_key_that_has_spent_its_grace_is_tried_before_anybody_ends() -> None:
    lives = living()
    lives.unplug()
    lives.wait(301)
    lives.plug("T")
    lives.wait(1)
    assert (lives.sink.seats("platform"), lives.record("T").budget.left_ns) == (10, 0)
    lives.silent.add("T")
    lives.restart(is_clean=False)
    assert lives.sink.starting == {0}
    lives.wait(9)
    assert lives.sink.starting == {0}
    lives.wait(1)
    assert lives.sink.starting == set(), "10 s, and then it is lost"
    lives.restart(is_clean=False)
    assert lives.sink.starting == set(), "and not again without a proof in between"
    lives.silent.clear()
    lives.wait(60)
    assert lives.sink.seats("platform") == 10
    lives.silent.add("T")
    lives.restart(is_clean=False)
    assert lives.sink.starting == {0}


def test_a_start_that_dies_again_and_again_waits_ten_seconds_in_all() -> None:
    lives = living()
    lives.unplug()
    lives.wait(301)
    lives.plug("T")
    lives.wait(1)
    lives.silent.add("T")
    waited_s = 0
    for _ in range(40):
        lives.begin()
        lives.wait(1)
        waited_s += bool(lives.sink.starting)
    assert 1 <= waited_s <= 10


def test_one_key_that_is_back_ends_the_wait_for_one_that_is_not() -> None:
    lives = Lives([licence("L-1", "T", 10), licence("L-2", "U", 20)])
    lives.plug("T", "1")
    lives.plug("U", "2")
    lives.wait(61)
    lives.unplug("2")
    lives.begin()
    lives.step(0)
    assert lives.sink.starting == set()
    assert lives.sink.seats("platform") == 10
    lost = [one.licence.licence_id for one in lives.engine.book.given.values() if one.is_lost]
    assert lost == ["L-2"], "the deficit is that of the key that is gone, and of no other"
    assert lives.grace_ns("U") > 0
    lives.plug("U", "2")
    lives.wait(1)
    assert lives.sink.seats("platform") == 30
    assert not lives.sink.lost


def test_a_key_whose_first_try_fails_is_awaited_until_the_next() -> None:
    lives = living()
    lives.silent.add("T")
    lives.restart(is_clean=True)
    (number,) = lives.numbers
    lives.engine.core.opened(number, Identity("T", "Key", "1-1", False), lives.now_ns)
    lives.engine.core.failed(number, Fault(FaultKind.UNANSWERED, "not_answering", "no answer"), lives.now_ns)
    lives.wait(2)
    assert lives.engine.is_started
    assert lives.record("T").code != "not_back"
    lives.silent.clear()
    lives.wait(1)
    assert lives.record("T").budget.left_ns == 297 * S, "it pays for its wait, and not since its last proof"


def test_a_key_that_is_connected_and_never_answers_is_lost_when_the_start_is_over() -> None:
    lives = living()
    lives.silent.add("T")
    lives.restart(is_clean=True)
    (number,) = lives.numbers
    lives.engine.core.opened(number, Identity("T", "Key", "1-1", False), lives.now_ns)
    lives.wait(11)
    assert lives.record("T").code == "not_back"
    lives.silent.clear()
    lives.wait(1)
    assert lives.record("T").budget.left_ns == (300 - 15 - 12) * S, "it pays since its last proof"


# --- why a licence does not count ------------------------------------------------------------------------------------------


def cause_after_restart(lives: Lives) -> tuple[EndReason, int]:
    lives.unplug()
    lives.begin()
    (told,) = lives.engine.book.given.values()
    return told.cause, told.grace_until_ns - lives.now_ns


def test_a_licence_that_expired_while_nobody_looked_ends_as_expired() -> None:
    lives = living(licence(expires_unix_s=NOW_UNIX_S + 100))
    lives.wall_unix_s += 100
    assert cause_after_restart(lives) == (EndReason.LICENCE_ENDED, 210 * S)


def test_a_licence_that_was_taken_out_meanwhile_ends_by_policy_and_one_on_its_key_with_its_key() -> None:
    lives = living()
    lives.licences.clear()
    assert cause_after_restart(lives)[0] is EndReason.POLICY_CHANGED
    lives = living(licence(is_carried=True))
    lives.licences.clear()
    assert cause_after_restart(lives)[0] is EndReason.KEY_LOST


def test_the_grace_of_an_ended_licence_does_not_begin_anew_with_each_start() -> None:
    lives = living(licence(expires_unix_s=NOW_UNIX_S + 100))
    lives.wait(100)
    (told,) = lives.engine.book.given.values()
    assert (told.cause, told.is_lost) == (EndReason.LICENCE_ENDED, True)
    lives.begin()
    assert [call[0] for call in lives.sink.calls if call[0] != "starting"] == ["lapse", "remove"]


def test_a_licence_whose_grace_is_over_is_forgotten() -> None:
    lives = living()
    lives.unplug()
    lives.wait(301)
    lives.begin()
    assert not [call for call in lives.sink.calls if call[0] == "lapse"]


# --- an admin's word, and clones ----------------------------------------------------------------------------------------------


def test_a_disabled_key_stays_disabled_until_an_admin_enables_it(caplog: pytest.LogCaptureFixture) -> None:
    lives = living()
    lives.engine.core.set_enabled("T", False, lives.now_ns)
    lives.step(0)
    for is_clean in (True, False):
        lives.restart(is_clean=is_clean)
        lives.wait(5)
        assert (lives.record("T").state, lives.record("T").code) == (KeyState.DISABLED, "disabled")
        assert lives.sink.seats("platform") == 0
    assert "security key disabled" in caplog.text
    lives.engine.core.set_enabled("T", True, lives.now_ns)
    lives.wait(1)
    assert lives.sink.seats("platform") == 10
    lives.restart(is_clean=False)
    assert lives.record("T").state is KeyState.PRESENT


def test_a_quarantine_outlives_the_broker_and_is_said_again(caplog: pytest.LogCaptureFixture) -> None:
    lives = living()
    lives.plug("T", "2")
    lives.wait(3)
    assert lives.record("T").state is KeyState.QUARANTINED
    sentence = lives.record("T").sentence
    lives.unplug("2")
    caplog.clear()
    lives.restart(is_clean=True)
    lives.wait(5)
    assert (lives.record("T").state, lives.record("T").code) == (KeyState.QUARANTINED, "clone")
    assert lives.record("T").sentence == sentence
    assert "it has a clone" in caplog.text
    assert lives.sink.seats("platform") == 0


# --- what is written ------------------------------------------------------------------------------------------------------------


class CountingMemory(VolatileMemory):
    """Counts what is written, and refuses it on demand."""

    put_count = 0
    is_full = False

    def put(self, name: bytes, value: bytes) -> None:
        if self.is_full:
            raise MemoryFull
        self.put_count += 1
        super().put(name, value)


def test_a_quiet_key_is_written_once_and_not_at_each_proof() -> None:
    memory = CountingMemory()
    lives = Lives([licence()], memory=memory)
    lives.plug("T")
    lives.wait(2_000)
    assert lives.record("T").proof_count > 40
    assert memory.put_count == 2, "the key and its licence"


def test_each_writing_covers_the_time_until_the_next_one() -> None:
    """What a crash at any instant would leave behind is never kinder than the truth."""
    lives = living()
    lives.wait(10)
    lives.unplug()
    for _ in range(290):
        lives.step(S)
        (memory,) = read_remembered(lives.memory.all()).keys.values()
        budget = lives.record("T").budget
        assert budget.last_proof_ns is not None
        assert memory.budget.proof_age_ns is not None
        truth_ns = budget.left_ns - (lives.now_ns - budget.last_proof_ns)
        left_ns = memory.budget.left_ns - memory.budget.proof_age_ns
        assert left_ns <= max(0, truth_ns - 5 * S), "and it has seconds to become durable"


def test_what_finds_no_room_is_written_as_soon_as_there_is_some() -> None:
    memory = CountingMemory()
    lives = Lives([licence()], memory=memory)
    memory.is_full = True
    lives.plug("T")
    lives.wait(5)
    assert memory.kept == {}
    memory.is_full = False
    lives.wait(1)
    assert sorted(name.partition(b"/")[0] for name in memory.kept) == [b"key", b"licence"]


def test_a_key_whose_memory_is_broken_has_spent_its_grace() -> None:
    memory = VolatileMemory({b"key/T": b'{"v":7}', b"licence/x": b"{", b"other/x": b"of somebody else"})
    lives = Lives([licence()], memory=memory)
    lives.plug("T")
    lives.wait(1)
    assert lives.sink.seats("platform") == 10
    assert lives.record("T").budget.left_ns == 0


# --- whatever happens --------------------------------------------------------------------------------------------------------------

happenings = st.lists(
    st.tuples(
        st.sampled_from(["plug", "unplug", "stop", "crash", "boot", "carry", "silent", "answering"]),
        st.sampled_from([0, 1, 2, 7, 30, 95, 200, 290, 400, 1_500]),
    ),
    max_size=24,
)


@settings(max_examples=120, deadline=None)
@given(happenings)
def test_no_hour_of_served_time_holds_more_grace_than_one_budget_whatever_restarts(script: list[tuple[str, int]]) -> None:
    """An observer that knows only what the ledger was told: charges stand on seats, on grace, or on a start that still waits."""
    lives = Lives([licence()])
    served_ns, is_alive = 0, False
    graces: list[tuple[int, int]] = []
    held_ns = held_ns_most = 0
    lives.plug("T")
    for what, wait_s in [("plug", 5), *script]:
        if what == "plug" and not lives.plugged:
            lives.plug("T")
        elif what == "unplug":
            lives.unplug()
        elif what in ("stop", "crash", "boot"):
            lives.restart(is_clean=what == "stop", boot_ns=3 * S if what == "boot" else None)
        elif what == "carry":  # away while nobody runs, and back in the next start
            lives.unplug()
            lives.restart(is_clean=True)
        elif what in ("silent", "answering"):
            (lives.silent.add if what == "silent" else lives.silent.discard)("T")
        for _ in range(wait_s):
            has_seats, is_in_grace = lives.sink.seats("platform") > 0, lives.grace_ns("T") > 0
            is_held = bool(lives.sink.starting)
            is_alive = has_seats or (is_alive and (is_in_grace or is_held))
            if has_seats:
                held_ns = 0
            elif is_alive and is_in_grace:
                graces.append((served_ns, served_ns + S))
            elif is_alive:
                held_ns += S
                held_ns_most = max(held_ns_most, held_ns)
            lives.step(S)
            served_ns += S
    assert held_ns_most <= 10 * S
    begins = [begin for begin, _ in graces]
    assert all(earlier < later for earlier, later in pairwise(begins))
    for index, begin in enumerate(begins):
        inside = sum(other < begin + HOUR_NS for other in begins[index:])
        assert inside <= 300, f"{inside} s of grace in the hour from {begin // S} s on"
