"""The keyring's logic under a clock of the test's own: keys that come and go, fail, return and are cloned."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.keyring import KeyringSettings, KeyState
from broker.keyring.core import KeyringCore, Work, WorkKind
from broker.keyring.records import Fault, FaultKind, Identity, KeyRecord
from broker.model.words import EndReason
from hwkey import KeyPort, UsbAddress

S = 1_000_000_000
SETTINGS = KeyringSettings(broker_id="b", attachment_count_max=8)
SILENT = Fault(FaultKind.UNANSWERED, "not_answering", "no answer")
WRONG = Fault(FaultKind.WRONG, "proof_rejected", "not its signature")
GONE = Fault(FaultKind.GONE, "unplugged", "it has been unplugged")


def port(place: str, generation: int = 1) -> KeyPort:
    return KeyPort(f"usb:{place}:0", UsbAddress(1, (int(place),), 2, generation), 0, 1, 1, "Key", "", False)


@dataclass
class Bench:
    """A core, a clock, and what is plugged in where."""

    core: KeyringCore = field(
        default_factory=lambda: KeyringCore(SETTINGS, lambda least, most: (least + most) // 2)
    )
    now_ns: int = 0
    ports: dict[str, KeyPort] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)

    def scan(self) -> None:
        for attachment in self.core.scanned("usb", list(self.ports.values()), self.now_ns):
            self.numbers[str(attachment.port.address.port_numbers[0])] = attachment.number

    def plug(self, place: str) -> int:
        self.generations[place] = self.generations.get(place, 0) + 1
        self.ports[place] = port(place, self.generations[place])
        self.scan()
        return self.numbers[place]

    def unplug(self, place: str) -> None:
        del self.ports[place]
        self.scan()

    def open(self, place: str, thumbprint: str) -> None:
        self.core.opened(self.numbers[place], Identity(thumbprint, "Key", f"1-{place}", False), self.now_ns)

    def prove(self, place: str, asked_ns: int | None = None) -> None:
        self.core.proved(self.numbers[place], self.now_ns if asked_ns is None else asked_ns, self.now_ns)

    def fail(self, place: str, fault: Fault) -> None:
        self.core.failed(self.numbers[place], fault, self.now_ns)

    def work(self, place: str) -> Work:
        return self.core.work(self.numbers[place])

    def wait(self, wait_ns: int) -> None:
        self.now_ns += wait_ns
        self.core.tick(self.now_ns)

    def present(self, place: str, thumbprint: str) -> None:
        self.plug(place)
        self.open(place, thumbprint)
        self.prove(place)

    def record(self, thumbprint: str) -> KeyRecord:
        return next(record for record in self.core.records() if record.thumbprint == thumbprint)

    def state(self, thumbprint: str) -> KeyState:
        return self.record(thumbprint).state

    def counts(self, thumbprint: str) -> bool:
        standing = self.core.standings(self.now_ns).get(thumbprint)
        return standing is not None and standing.proven_until_ns > self.now_ns


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.core.licensed(["T"])
    return bench


def test_a_key_counts_from_its_first_proof_and_not_from_its_certificate(bench: Bench) -> None:
    assert bench.state("T") is KeyState.ABSENT
    bench.plug("1")
    assert bench.work("1") == Work(WorkKind.OPEN, 0)
    bench.open("1", "T")
    assert (bench.state("T"), bench.counts("T")) == (KeyState.PROVING, False)
    assert bench.work("1").kind is WorkKind.PROVE
    bench.prove("1")
    assert (bench.state("T"), bench.counts("T")) == (KeyState.PRESENT, True)
    assert bench.work("1") == Work(WorkKind.PROVE, 45 * S)


def test_a_proof_is_good_from_when_its_nonce_was_made_for_90_s(bench: Bench) -> None:
    bench.plug("1")
    bench.open("1", "T")
    bench.now_ns = 5 * S
    bench.prove("1", asked_ns=2 * S)
    assert bench.core.standings(bench.now_ns)["T"].proven_until_ns == 92 * S
    assert bench.record("T").proof_latency_ns == 3 * S
    bench.wait(87 * S)
    assert (bench.state("T"), bench.record("T").code) == (KeyState.LOST, "proof_ended")


def test_an_unplug_ends_the_seats_at_once_and_its_late_proof_is_worth_nothing(bench: Bench) -> None:
    bench.present("1", "T")
    number = bench.numbers["1"]
    bench.unplug("1")
    assert (bench.state("T"), bench.counts("T")) == (KeyState.LOST, False)
    assert bench.core.work(number).kind is WorkKind.STOP
    assert number in bench.core.woken
    bench.prove("1")
    assert not bench.counts("T")


def test_a_returned_key_that_does_not_answer_cannot_live_on_its_old_proof(bench: Bench) -> None:
    bench.present("1", "T")
    bench.unplug("1")
    bench.plug("1")
    bench.open("1", "T")
    bench.fail("1", SILENT)
    assert (bench.state("T"), bench.counts("T")) == (KeyState.SUSPECT, False)


def test_a_silent_key_is_asked_three_times_and_keeps_its_seats_meanwhile(bench: Bench) -> None:
    bench.present("1", "T")
    for _ in range(2):
        bench.fail("1", SILENT)
        assert (bench.state("T"), bench.counts("T")) == (KeyState.SUSPECT, True)
        assert bench.work("1").kind is WorkKind.PROVE
    bench.fail("1", SILENT)
    assert (bench.state("T"), bench.counts("T")) == (KeyState.LOST, False)
    assert bench.work("1").kind is WorkKind.OPEN


def test_one_good_answer_ends_a_doubt(bench: Bench) -> None:
    bench.present("1", "T")
    for _ in range(5):
        bench.fail("1", SILENT)
        bench.fail("1", SILENT)
        bench.prove("1")
        assert bench.state("T") is KeyState.PRESENT


@pytest.mark.parametrize("fault", [WRONG, GONE])
def test_a_wrong_answer_or_a_vanished_device_costs_the_seats_at_the_first_time(
    bench: Bench, fault: Fault
) -> None:
    bench.present("1", "T")
    bench.fail("1", fault)
    assert (bench.state("T"), bench.counts("T"), bench.record("T").code) == (KeyState.LOST, False, fault.code)
    bench.now_ns = bench.work("1").due_ns
    bench.open("1", "T")
    assert bench.state("T") is KeyState.PROVING
    bench.prove("1")
    assert bench.counts("T")


def test_retries_become_rarer_up_to_a_bound(bench: Bench) -> None:
    bench.plug("1")
    waits = []
    for _ in range(12):
        bench.fail("1", SILENT)
        waits.append(bench.work("1").due_ns - bench.now_ns)
        bench.now_ns = bench.work("1").due_ns
    assert waits[:4] == [S // 2, S, 2 * S, 4 * S]
    assert waits[-1] == 30 * S
    assert SETTINGS.retry_ns(10**9) == 30 * S


def test_a_lost_key_is_forgotten_when_its_grace_is_over(bench: Bench) -> None:
    bench.present("1", "T")
    bench.present("2", "unlicensed")
    bench.wait(10 * S)
    bench.unplug("1")
    bench.unplug("2")
    bench.wait(289 * S)
    assert bench.state("T") is KeyState.LOST
    bench.wait(S)
    assert bench.state("T") is KeyState.ABSENT
    assert [record.thumbprint for record in bench.core.records()] == ["T"]
    # What it has spent is not forgotten with it.
    bench.present("1", "T")
    assert bench.record("T").budget.left_ns == 0


def test_a_device_that_was_opened_as_one_key_and_comes_back_as_another_is_both(bench: Bench) -> None:
    bench.present("1", "T")
    bench.fail("1", WRONG)
    bench.open("1", "U")
    bench.prove("1")
    assert (bench.state("T"), bench.counts("T")) == (KeyState.LOST, False)
    assert bench.counts("U")


def test_a_place_that_flaps_is_left_alone_for_longer_and_longer_until_it_is_quiet(bench: Bench) -> None:
    held = []
    for _ in range(9):
        bench.plug("1")
        held.append((bench.work("1").due_ns - bench.now_ns) / S)
        bench.wait(S)
        bench.unplug("1")
    assert held == [0, 0, 0, 0, 1, 2, 4, 8, 8]
    bench.plug("2")
    assert bench.work("2").due_ns == bench.now_ns, "another place is another hub"
    bench.plug("1")
    (shown,) = [one for one in bench.core.records() if one.code == "flapping"]
    assert (shown.state, "9 times" in shown.sentence, "hub" in shown.sentence) == (KeyState.SUSPECT, True, True)
    bench.wait(8 * S)
    bench.open("1", "T")
    bench.prove("1")
    assert bench.counts("T")
    bench.unplug("1")
    bench.wait(60 * S)
    bench.plug("1")
    assert bench.work("1").due_ns == bench.now_ns, "a minute of quiet, and it is believed again"


def test_keys_beyond_the_bound_are_left_alone_and_counted(bench: Bench) -> None:
    for place in range(1, 11):
        bench.ports[str(place)] = port(str(place))
    bench.scan()
    assert len(bench.numbers) == 8
    assert bench.core.unserved_count == 2
    bench.unplug("1")
    bench.scan()
    assert (len(bench.numbers), bench.core.unserved_count) == (9, 1)


def test_scans_of_one_bus_do_not_unplug_the_keys_of_another(bench: Bench) -> None:
    bench.present("1", "T")
    bench.core.scanned("emulated", [], bench.now_ns)
    assert bench.counts("T")


def test_the_start_is_over_when_every_attached_key_has_been_proven_or_has_failed(bench: Bench) -> None:
    bench.plug("1")
    bench.plug("2")
    assert bench.core.unsettled_count() == 2
    bench.open("1", "T")
    bench.fail("2", SILENT)
    assert bench.core.unsettled_count() == 1
    bench.prove("1")
    assert bench.core.unsettled_count() == 0


# --- an admin's word ------------------------------------------------------------------------------------------------


def test_a_disabled_key_is_not_asked_and_does_not_count_until_it_is_enabled(bench: Bench) -> None:
    bench.present("1", "T")
    assert bench.core.set_enabled("T", False, bench.now_ns)
    assert bench.core.standings(bench.now_ns)["T"].loss_cause is EndReason.POLICY_CHANGED
    assert bench.work("1").kind is WorkKind.IDLE
    bench.prove("1")
    assert (bench.state("T"), bench.record("T").code) == (KeyState.DISABLED, "disabled")
    bench.unplug("1")
    bench.plug("1")
    bench.open("1", "T")
    assert (bench.state("T"), bench.work("1").kind) == (KeyState.DISABLED, WorkKind.IDLE)
    bench.core.set_enabled("T", True, bench.now_ns)
    assert (bench.state("T"), bench.work("1").kind) == (KeyState.PROVING, WorkKind.PROVE)
    bench.prove("1")
    assert bench.counts("T")


def test_a_doubt_makes_the_next_proof_due_now(bench: Bench) -> None:
    bench.present("1", "T")
    bench.wait(10 * S)
    assert bench.core.doubt("T", bench.now_ns)
    assert bench.work("1") == Work(WorkKind.PROVE, 10 * S)
    assert not bench.core.doubt("U", bench.now_ns)


def test_grace_that_a_key_has_spent_is_not_forgotten_with_its_licence(bench: Bench) -> None:
    bench.present("1", "T")
    bench.unplug("1")
    bench.wait(300 * S)
    assert bench.state("T") is KeyState.ABSENT
    bench.core.licensed([])
    bench.wait(S)
    bench.core.licensed(["T"])
    bench.present("1", "T")
    assert bench.record("T").budget.left_ns == 0


# --- clones ---------------------------------------------------------------------------------------------------------


def test_a_copied_certificate_alone_disturbs_nobody(bench: Bench) -> None:
    bench.present("1", "T")
    bench.wait(S)
    bench.plug("2")
    bench.open("2", "T")
    assert bench.work("2").kind is WorkKind.IDLE, "the incumbent is asked first"
    assert bench.work("1") == Work(WorkKind.PROVE, S)
    bench.prove("1")
    assert bench.work("2").kind is WorkKind.PROVE
    bench.fail("2", WRONG)
    assert (bench.state("T"), bench.counts("T")) == (KeyState.PRESENT, True)
    assert [(record.state, record.code) for record in bench.core.records() if not record.thumbprint] == [
        (KeyState.SUSPECT, "proof_rejected")
    ]


def test_two_that_answer_distinct_nonces_are_both_quarantined(bench: Bench) -> None:
    bench.present("1", "T")
    bench.plug("2")
    bench.open("2", "T")
    bench.wait(S)
    bench.prove("1")
    bench.prove("2")
    assert (bench.state("T"), bench.counts("T")) == (KeyState.QUARANTINED, False)
    assert {bench.work("1").kind, bench.work("2").kind} == {WorkKind.IDLE}
    assert "1-1 and 1-2" in bench.record("T").sentence


def test_a_proof_of_the_incumbent_from_before_the_other_came_does_not_count_against_it(bench: Bench) -> None:
    bench.present("1", "T")
    bench.wait(10 * S)
    bench.plug("2")
    bench.open("2", "T")
    bench.prove("1", asked_ns=9 * S)
    assert bench.work("2").kind is WorkKind.IDLE
    bench.prove("2")
    assert bench.state("T") is KeyState.PRESENT, "an answer that was not asked for says nothing"


def test_each_incumbent_is_proven_again_before_a_challenger_can_convict_it(bench: Bench) -> None:
    bench.present("1", "T")
    for place in ("2", "3"):
        bench.plug(place)
        bench.open(place, "T")
    bench.prove("1")
    bench.unplug("1")  # the second takes its place; nothing has been asked of it yet
    bench.prove("3")
    assert bench.state("T") is not KeyState.QUARANTINED
    bench.wait(S)
    bench.prove("2")
    bench.prove("3")
    assert bench.state("T") is KeyState.QUARANTINED


def test_fast_re_enumeration_is_no_clone(bench: Bench) -> None:
    """The hub shows the key at its new place before its old place is known to be empty."""
    bench.present("1", "T")
    bench.plug("2")
    bench.open("2", "T")
    bench.fail("1", GONE)
    assert bench.state("T") is KeyState.PROVING
    bench.prove("2")
    assert (bench.state("T"), bench.counts("T")) == (KeyState.PRESENT, True)
    bench.unplug("1")
    assert bench.counts("T")


def test_an_unplugged_incumbent_gives_way_to_the_one_that_waits(bench: Bench) -> None:
    bench.present("1", "T")
    bench.plug("2")
    bench.open("2", "T")
    bench.unplug("1")
    assert (bench.state("T"), bench.work("2").kind) == (KeyState.PROVING, WorkKind.PROVE)
    bench.prove("2")
    assert bench.counts("T")


def test_a_silent_incumbent_gives_way_when_it_is_given_up(bench: Bench) -> None:
    bench.present("1", "T")
    bench.plug("2")
    bench.open("2", "T")
    for _ in range(3):
        bench.fail("1", SILENT)
    bench.prove("2")
    assert bench.counts("T")
    bench.open("1", "T")
    bench.prove("2")
    bench.prove("1")
    assert bench.state("T") is KeyState.QUARANTINED, "two private keys after all"


def test_a_third_device_in_a_quarantine_is_not_asked_either(bench: Bench) -> None:
    bench.present("1", "T")
    for place in ("2", "3"):
        bench.plug(place)
        bench.open(place, "T")
    bench.prove("1")
    bench.prove("2")
    bench.prove("3")
    assert bench.state("T") is KeyState.QUARANTINED
    bench.unplug("1")
    bench.unplug("2")
    assert (bench.state("T"), bench.work("3").kind) == (KeyState.QUARANTINED, WorkKind.IDLE)


def test_enabling_while_both_are_plugged_in_ends_in_quarantine_again(bench: Bench) -> None:
    bench.present("1", "T")
    bench.plug("2")
    bench.open("2", "T")
    bench.prove("1")
    bench.prove("2")
    bench.wait(S)
    bench.core.set_enabled("T", True, bench.now_ns)
    assert (bench.work("1").kind, bench.work("2").kind) == (WorkKind.PROVE, WorkKind.IDLE)
    bench.prove("1")
    bench.prove("2")
    assert bench.state("T") is KeyState.QUARANTINED


# --- whatever happens -----------------------------------------------------------------------------------------------

PLACES, NAMES = ("1", "2", "3"), ("T", "U")
steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "plug",
                "unplug",
                "open",
                "prove",
                "silent",
                "wrong",
                "gone",
                "disable",
                "enable",
                "wait",
                "doubt",
            ]
        ),
        st.sampled_from(PLACES),
        st.sampled_from(NAMES),
        st.integers(0, 60),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(steps)
def test_seats_count_only_on_a_good_proof_of_a_plugged_key(script: list[tuple[str, str, str, int]]) -> None:
    """Against a model that knows only who answered last and what is plugged in."""
    bench = Bench()
    bench.core.licensed(["T"])
    claims: dict[str, str] = {}
    proven_ns: dict[str, int] = {}
    for what, place, name, wait_s in script:
        is_plugged = place in bench.ports
        work = bench.work(place).kind if is_plugged else WorkKind.STOP
        if what == "plug" and not is_plugged:
            bench.plug(place)
        elif what == "unplug" and is_plugged:
            claims.pop(place, None)
            bench.unplug(place)
        elif what == "open" and work is WorkKind.OPEN:
            claims[place] = name
            bench.open(place, name)
        elif what == "prove" and work is WorkKind.PROVE:
            proven_ns[claims[place]] = bench.now_ns
            bench.prove(place)
        elif what in ("silent", "wrong", "gone") and work in (WorkKind.OPEN, WorkKind.PROVE):
            bench.fail(place, {"silent": SILENT, "wrong": WRONG, "gone": GONE}[what])
        elif what in ("disable", "enable"):
            bench.core.set_enabled(name, what == "enable", bench.now_ns)
        elif what == "doubt":
            bench.core.doubt(name, bench.now_ns)
        bench.wait(wait_s * S if what == "wait" else 0)
        for one in NAMES:
            if bench.counts(one):
                assert one in claims.values(), "counts without being plugged in"
                assert bench.now_ns < proven_ns[one] + 90 * S, "counts without a good proof"
                assert bench.state(one) in (KeyState.PRESENT, KeyState.SUSPECT)
        for record in bench.core.records():
            connected = [record.attachment] if record.attachment else []
            for attachment in connected + record.challengers:
                assert attachment.record is record
                assert bench.core.work(attachment.number).kind is not WorkKind.STOP
        live = {number for place, number in bench.numbers.items() if place in bench.ports}
        held = [
            one.number
            for record in bench.core.records()
            for one in ([record.attachment] if record.attachment else []) + record.challengers
        ]
        assert sorted(held) == sorted(live), "every connection belongs to exactly one record"
