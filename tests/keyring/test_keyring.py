"""The keyring with its threads, over the emulated fleet: the same driver and packets as with real keys.

Every wait is for an event: a change at the recording ledger, or of the keyring's own view.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.keyring import Keyring, KeyringSettings, KeyState, LicenceState
from broker.licence import (
    LicenceFolder,
)
from broker.model.words import EndReason
from hwkey import BackendMissing, CardAbsent, KeyPort, SecurityKey
from hwkey.emulated import Fault, FaultKind, SigningAlgorithm, TokenFleet, emulated_bus
from tests.support.waiting import until

from .conftest import SETTINGS, RecordingSink, S

Put = Callable[..., Path]
class TroubledBus:
    """The emulated bus, with troubles of the host and of the driver that a test switches on."""

    def __init__(self, fleet: TokenFleet) -> None:
        self._bus = emulated_bus(fleet)
        self.scan_trouble: Exception | None = None
        self.open_trouble: Exception | None = None
        self.wait_trouble: Exception | None = None

    @property
    def name(self) -> str:
        return "troubled"

    def scan(self) -> list[KeyPort]:
        if self.scan_trouble is not None:
            raise self.scan_trouble
        return self._bus.scan()

    def open(self, port: KeyPort) -> SecurityKey:
        if self.open_trouble is not None:
            raise self.open_trouble
        return self._bus.open(port)

    def wait_change(self, wait_s: float) -> bool:
        if self.wait_trouble is not None:
            raise self.wait_trouble
        return self._bus.wait_change(wait_s)

    def wake(self) -> None:
        self._bus.wake()


def state_of(keyring: Keyring, thumbprint: str) -> KeyState:
    return next(shown.state for shown in keyring.views().keys if shown.thumbprint == thumbprint)


def test_seats_of_all_keys_are_summed_once_all_are_proven(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    for name, product, seats in (
        ("a", "platform", 5),
        ("b", "platform", 10),
        ("c", "crm", 10),
        ("d", "telephony", 5),
    ):
        licence(name, fleet.create(name).thumbprint, product, seats)
    keyring = run()
    assert (sink.seats("platform"), sink.seats("crm"), sink.seats("telephony")) == (15, 10, 5)
    assert len(sink.pools) == 3
    assert all(is_emulated for _, _, is_emulated in sink.pools)
    # Declared and starting before the first proof, serving after the last.
    assert [call[0] for call in sink.calls[:3]] == ["starting"] * 3
    assert [call for call in sink.calls if call[0] == "starting" and not call[2]] == [
        ("starting", n, False) for n in range(3)
    ]
    assert not sink.starting
    views = keyring.views()
    assert {shown.state for shown in views.keys} == {KeyState.PRESENT}
    assert {row.state for row in views.licences} == {LicenceState.COUNTING}
    assert not views.is_starting


@pytest.mark.parametrize("profile", ["yubikey5-like", "nitrokey3-like"])
@pytest.mark.parametrize("algorithm", list(SigningAlgorithm))
def test_every_kind_of_key_counts(
    fleet: TokenFleet,
    sink: RecordingSink,
    licence: Put,
    run: Callable[..., Keyring],
    profile: str,
    algorithm: SigningAlgorithm,
) -> None:
    licence("L-1", fleet.create("a", profile=profile, algorithm=algorithm).thumbprint, "platform", 7)
    run()
    assert sink.seats("platform") == 7


def test_a_pulled_key_takes_its_seats_and_a_returned_one_brings_them_back(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    licence("L-2", fleet.create("b").thumbprint, "platform", 10)
    keyring = run()
    fleet.unplug("a")
    sink.await_seats("platform", 10)
    assert sink.causes() == [EndReason.KEY_LOST]
    assert state_of(keyring, thumbprint) is KeyState.LOST
    (row,) = [row for row in keyring.views().licences if row.licence_id == "L-1"]
    assert (row.state, row.code) == (LicenceState.KEY_ABSENT, "key_lost")
    fleet.plug("a")
    sink.await_seats("platform", 15)
    # The same source heals: nothing else was made or removed on the way.
    assert set(sink.sources) == {0, 1}
    assert not sink.lost


def test_keys_are_proven_again_and_again_with_a_later_end(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    keyring = run()
    first = sink.sources[0]
    until(lambda: keyring.views().keys[0].proof_count >= 4, "four proofs")
    assert sink.sources[0][2] > first[2]
    assert sink.sources[0][3] - sink.sources[0][2] == (300 - 30) * S, (
        "grace is counted from the proof, not from its end"
    )
    shown = keyring.views().keys[0]
    assert shown.proof_latency_ns is not None
    assert shown.proof_failure_count == 0
    assert shown.seats == {"platform": 5}


@pytest.mark.parametrize("kind", [FaultKind.BAD_SIGNATURE, FaultKind.OTHER_KEY_SIGNATURE])
def test_a_wrong_signature_ends_the_seats_at_once_and_the_next_right_one_heals(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring], kind: FaultKind
) -> None:
    token = fleet.create("a")
    licence("L-1", token.thumbprint, "platform", 5)
    keyring = run()
    token.faults.append(Fault(kind))
    until(lambda: bool(sink.causes()), "the seats to be lost")
    sink.await_seats("platform", 5)
    assert sink.causes() == [EndReason.KEY_LOST]
    assert keyring.views().keys[0].proof_failure_count == 1


@pytest.mark.parametrize(
    "kind", [FaultKind.STALL, FaultKind.WRONG_SEQUENCE, FaultKind.EMPTY_ANSWER, FaultKind.READER_FAILURE]
)
def test_one_unanswered_proof_costs_no_seat(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring], kind: FaultKind
) -> None:
    token = fleet.create("a")
    licence("L-1", token.thumbprint, "platform", 5)
    keyring = run()
    proof_count = keyring.views().keys[0].proof_count
    token.faults.append(Fault(kind))
    until(lambda: token.faults.is_empty, "the fault to happen")
    until(lambda: keyring.views().keys[0].proof_count >= proof_count + 3, "proofs after it")
    assert sink.causes() == []
    assert state_of(keyring, token.thumbprint) is KeyState.PRESENT


def test_a_key_that_stops_answering_is_lost_after_three_attempts(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    token = fleet.create("a")
    licence("L-1", token.thumbprint, "platform", 5)
    keyring = run()
    token.faults.append(Fault(FaultKind.READER_FAILURE, repeat_count=1_000_000))
    sink.await_seats("platform", 0)
    assert keyring.views().keys[0].proof_failure_count >= 3
    assert state_of(keyring, token.thumbprint) is KeyState.LOST
    token.faults.clear()
    sink.await_seats("platform", 5)


def test_a_key_that_leaves_in_the_middle_of_a_transfer_is_lost(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    token = fleet.create("a")
    licence("L-1", token.thumbprint, "platform", 5)
    run()
    token.faults.append(Fault(FaultKind.UNPLUG))
    sink.await_seats("platform", 0)
    fleet.plug("a")
    sink.await_seats("platform", 5)


def test_a_key_that_cannot_be_opened_says_why_and_ends_the_start(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    token = fleet.create("a")
    licence("L-1", token.thumbprint, "platform", 5)
    token.faults.append(Fault(FaultKind.ACCESS_DENIED, repeat_count=1_000_000))
    keyring = run()
    assert not sink.starting
    (nameless,) = [shown for shown in keyring.views().keys if not shown.thumbprint]
    assert (nameless.state, nameless.code) == (KeyState.SUSPECT, "not_permitted")
    assert "udev" in nameless.sentence
    assert state_of(keyring, token.thumbprint) is KeyState.ABSENT
    token.faults.clear()
    sink.await_seats("platform", 5)


def test_two_tokens_with_one_private_key_are_both_quarantined(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    token = fleet.create("a")
    licence("L-1", token.thumbprint, "platform", 5)
    keyring = run()
    fleet.add("clone", dataclasses.replace(token))
    sink.await_seats("platform", 0)
    shown = keyring.views().keys[0]
    assert (shown.state, shown.code) == (KeyState.QUARANTINED, "clone")
    assert "101-1.1" in shown.sentence
    assert "101-1.2" in shown.sentence
    # Pulling one of them does not end a quarantine, since nobody knows which was the clone; an admin does.
    fleet.unplug("clone")
    keyring.doubt(token.thumbprint)
    assert state_of(keyring, token.thumbprint) is KeyState.QUARANTINED
    assert keyring.set_enabled(token.thumbprint, True)
    sink.await_seats("platform", 5)


def test_a_key_that_comes_back_at_another_place_is_no_clone(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    token = fleet.create("a")
    fleet.add("elsewhere", dataclasses.replace(token), is_plugged=False)
    licence("L-1", token.thumbprint, "platform", 5)
    keyring = run()
    for _ in range(5):
        fleet.unplug("a")
        fleet.plug("elsewhere")
        until(lambda: keyring.views().keys[0].address == "101-1.2", "the key at its new place")
        sink.await_seats("platform", 5)
        fleet.unplug("elsewhere")
        fleet.plug("a")
        until(lambda: keyring.views().keys[0].address == "101-1.1", "the key at its old place")
        sink.await_seats("platform", 5)
    assert state_of(keyring, token.thumbprint) is KeyState.PRESENT
    assert [shown.thumbprint for shown in keyring.views().keys] == [token.thumbprint]


def test_an_admin_can_stop_counting_a_key(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    keyring = run()
    assert keyring.set_enabled(thumbprint, False)
    assert sink.seats("platform") == 0
    assert sink.causes() == [EndReason.POLICY_CHANGED]
    assert state_of(keyring, thumbprint) is KeyState.DISABLED
    assert keyring.set_enabled(thumbprint, True)
    sink.await_seats("platform", 5)
    assert not keyring.set_enabled("nobody", True)
    assert not keyring.doubt("nobody")


def test_a_bus_that_cannot_be_scanned_is_said_and_the_keys_on_it_go_on(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    licence("L-1", fleet.create("a").thumbprint, "platform", 5)
    bus = TroubledBus(fleet)
    keyring = run(bus=bus)
    bus.scan_trouble = BackendMissing()
    until(lambda: bool(keyring.views().faults), "the fault to be shown")
    assert "libusb" in keyring.views().faults[0]
    proof_count = keyring.views().keys[0].proof_count
    until(lambda: keyring.views().keys[0].proof_count > proof_count, "another proof")
    assert sink.seats("platform") == 5
    bus.scan_trouble = None
    until(lambda: not keyring.views().faults, "the fault to be over")


def test_a_bus_that_cannot_be_waited_on_is_still_watched(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    licence("L-1", fleet.create("a", is_plugged=False).thumbprint, "platform", 5)
    bus = TroubledBus(fleet)
    bus.wait_trouble = OSError("too many open files")
    keyring = run(bus=bus)
    until(lambda: bool(keyring.views().faults), "the fault to be shown")
    fleet.plug("a")
    sink.await_seats("platform", 5)


def test_a_card_that_has_left_its_reader_is_an_unplugged_key_and_not_a_silent_one(
    fleet: TokenFleet,
    sink: RecordingSink,
    licence: Put,
    run: Callable[..., Keyring],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    licence("L-1", fleet.create("a").thumbprint, "platform", 5)
    run(dataclasses.replace(SETTINGS, attempt_count_max=1_000_000))
    assert sink.seats("platform") == 5

    def prove(*_: object, **__: object) -> None:
        raise CardAbsent

    monkeypatch.setattr(SecurityKey, "prove", prove)
    sink.await_seats("platform", 0)


def test_log_names_arrivals_and_losses_and_no_step_between(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring], caplog: pytest.LogCaptureFixture
) -> None:
    thumbprint = fleet.create("a").thumbprint
    licence("L-1", thumbprint, "platform", 5)
    with caplog.at_level("INFO", "broker.keyring"):
        run()
        fleet.unplug("a")
        sink.await_seats("platform", 0)
        fleet.plug("a")
        sink.await_seats("platform", 5)
    said = [(record.levelname, record.message, vars(record)["facts"]["thumbprint"]) for record in caplog.records]
    assert said == [
        ("INFO", "security key present", thumbprint),
        ("WARNING", "security key lost", thumbprint),
        ("INFO", "security key present", thumbprint),
    ]


def test_a_key_that_may_not_be_opened_is_said_though_it_has_no_name(
    fleet: TokenFleet, run: Callable[..., Keyring], caplog: pytest.LogCaptureFixture
) -> None:
    fleet.create("a").faults.append(Fault(FaultKind.ACCESS_DENIED, repeat_count=1_000_000))
    with caplog.at_level("INFO", "broker.keyring"):
        run()
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("WARNING", "security key cannot be used")
    assert "udev" in vars(record)["facts"]["cause"]


def test_a_defect_of_the_driver_is_a_failure_of_that_key_and_of_nothing_else(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    licence("L-1", fleet.create("a").thumbprint, "platform", 5)
    bus = TroubledBus(fleet)
    bus.open_trouble = ZeroDivisionError("in the driver")
    keyring = run(bus=bus)
    (nameless,) = [shown for shown in keyring.views().keys if not shown.thumbprint]
    assert (nameless.state, nameless.code) == (KeyState.SUSPECT, "defect")
    bus.open_trouble = None
    sink.await_seats("platform", 5)


def test_a_folder_that_is_not_there_starts_without_seats(
    fleet: TokenFleet, sink: RecordingSink, run: Callable[..., Keyring], folder: LicenceFolder
) -> None:
    fleet.create("a")
    folder.path.rmdir()
    keyring = run()
    assert [row.code for row in keyring.views().licences] == ["unreadable"]
    assert sink.calls == []


def test_two_hundred_keys_are_all_proven(
    fleet: TokenFleet, sink: RecordingSink, licence: Put, run: Callable[..., Keyring]
) -> None:
    for number in range(200):
        licence(f"L-{number}", fleet.create(f"key-{number}").thumbprint, "platform", 5)
    run(KeyringSettings(broker_id="b"))
    assert sink.seats("platform") == 1_000
