"""Every scripted fault ends in its own error, and the next attempt recovers; walked through all of a run's events."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hwkey import (
    CardAbsent,
    CardFailure,
    CardMute,
    CardUnpowered,
    DeviceError,
    HwkeyError,
    NotAnswering,
    NotPermitted,
    Proof,
    ProofRejected,
    ProtocolError,
    SecurityKey,
    SigningAlgorithm,
    Stalled,
    Unplugged,
    UsbFailure,
)
from hwkey.discovery import UsbKeyBus
from hwkey.emulated import PROFILES, EmulatedToken, Fault, FaultKind, FaultLayer, TokenFleet
from hwkey.emulated.faults import LAYER_OF

Prove = Callable[[SecurityKey], Proof]
SOUND = sorted(name for name, profile in PROFILES.items() if not profile.flaky_per_mille)

# What a proof ends in when the fault hits its only command, first transfer or signature; None: healed unnoticed.
ENDS: list[tuple[FaultKind, type[HwkeyError] | None]] = [
    (FaultKind.UNPLUG, Unplugged),
    (FaultKind.STALL, Stalled),
    (FaultKind.SPLIT_PACKET, None),
    (FaultKind.EMPTY_PACKET, None),
    (FaultKind.LOST_PACKET, NotAnswering),
    (FaultKind.NO_ANSWER, NotAnswering),
    (FaultKind.LATE_ANSWER, NotAnswering),
    (FaultKind.WRONG_SEQUENCE, NotAnswering),
    (FaultKind.STALE_ANSWER, None),
    (FaultKind.STALE_PACKET, ProtocolError),
    (FaultKind.SLOW, None),
    (FaultKind.EXTENSION_FLOOD, ProtocolError),
    (FaultKind.EMPTY_ANSWER, ProtocolError),
    (FaultKind.TRUNCATED_ANSWER, NotAnswering),
    (FaultKind.UNENDED_ANSWER, None),
    (FaultKind.READER_FAILURE, CardFailure),
    (FaultKind.CARD_ABSENT, CardAbsent),
    (FaultKind.CARD_MUTE, CardMute),
    (FaultKind.CARD_UNPOWERED, CardUnpowered),
    (FaultKind.BAD_SIGNATURE, ProofRejected),
    (FaultKind.OTHER_KEY_SIGNATURE, ProofRejected),
]


def open_only_key(bus: UsbKeyBus) -> SecurityKey:
    (port,) = bus.scan()
    return bus.open(port)


def test_every_kind_of_fault_has_its_layer_and_its_end_here() -> None:
    assert set(LAYER_OF) == set(FaultKind)
    opens = {kind for kind, layer in LAYER_OF.items() if layer is FaultLayer.OPEN}
    assert {kind for kind, _ in ENDS} == set(FaultKind) - opens


@pytest.mark.parametrize("profile", SOUND)
@pytest.mark.parametrize(("kind", "expected"), ENDS, ids=lambda value: getattr(value, "value", None))
def test_fault_during_a_proof_ends_in_its_error_and_the_next_attempt_recovers(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove, profile: str, kind: FaultKind, expected: type[HwkeyError] | None
) -> None:
    token = fleet.create("only", profile=profile)
    opened = open_only_key(bus)
    token.faults.append(Fault(kind, delay_ms=150 if kind is FaultKind.LATE_ANSWER else 20))
    if expected is None:
        prove(opened)
    else:
        with pytest.raises(expected) as caught:
            prove(opened)
        assert type(caught.value) is expected
        assert caught.value.where == "101-1.1"
    assert token.faults.is_empty
    if expected is Unplugged:
        opened.close()
        fleet.plug("only")
        opened = open_only_key(bus)
    prove(opened)


def test_eio_after_autosuspend_is_healed_by_opening_again(fleet: TokenFleet, bus: UsbKeyBus, prove: Prove) -> None:
    token = fleet.create("only")
    (port,) = bus.scan()
    token.faults.append(Fault(FaultKind.OPEN_EIO))
    prove(bus.open(port))
    assert bus.wait_change(0) is True


def test_key_that_comes_back_from_autosuspend_as_another_device_is_opened_after_a_scan(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove
) -> None:
    token = fleet.create("only")
    (port,) = bus.scan()
    token.faults.append(Fault(FaultKind.OPEN_EIO_MOVED))
    with pytest.raises(Unplugged):
        bus.open(port)
    assert bus.wait_change(0) is True
    token.faults.clear()
    (again,) = bus.scan()
    assert (again.attach_point, again.generation) == (port.attach_point, 2)
    prove(bus.open(again))


@pytest.mark.parametrize("kind", [FaultKind.ACCESS_DENIED, FaultKind.OPEN_EIO], ids=lambda kind: kind.value)
def test_fault_on_open_ends_in_its_error_and_the_next_attempt_recovers(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove, kind: FaultKind
) -> None:
    token = fleet.create("only")
    (port,) = bus.scan()
    token.faults.append(Fault(kind, repeat_count=1 if kind is FaultKind.ACCESS_DENIED else 2))
    expected = NotPermitted if kind is FaultKind.ACCESS_DENIED else UsbFailure
    with pytest.raises(expected) as caught:
        bus.open(port)
    assert caught.value.where == "101-1.1"
    prove(bus.open(port))


def test_key_that_may_not_be_opened_is_listed_without_its_strings(fleet: TokenFleet, bus: UsbKeyBus) -> None:
    token = fleet.create("only", is_plugged=False)
    token.faults.append(Fault(FaultKind.ACCESS_DENIED, repeat_count=100))
    fleet.plug("only")
    (port,) = bus.scan()
    assert (port.product, port.serial) == ("", "")
    assert port.is_emulated


def run(bus: UsbKeyBus, prove: Prove) -> None:
    """The whole conversation: find, open, prove, close."""
    ports = bus.scan()
    if not ports:
        raise Unplugged
    opened = bus.open(ports[0])
    try:
        prove(opened)
    finally:
        opened.close()


# The slow one is the first with waits, and the flaky one has troubles of its own.
WALKED_PROFILES = [profile for profile in SOUND if profile != "slow"]
WALKED = [kind for kind, layer in LAYER_OF.items() if layer is not FaultLayer.OPEN]


@pytest.mark.parametrize("profile", WALKED_PROFILES)
@pytest.mark.parametrize("kind", WALKED, ids=lambda kind: kind.value)
def test_fault_walked_through_every_event_of_a_run_never_breaks_the_next_run(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove, profile: str, kind: FaultKind
) -> None:
    token = fleet.create("only", profile=profile, algorithm=SigningAlgorithm.P256)
    event_count = events_of_a_run(bus, prove, token, LAYER_OF[kind])
    assert event_count >= 1
    errors: list[HwkeyError] = []
    for skip_count in range(event_count):
        token.faults.append(Fault(kind, skip_count=skip_count, delay_ms=1))
        try:
            run(bus, prove)
        except HwkeyError as error:
            errors.append(error)
        assert token.faults.is_empty
        fleet.plug("only")
        run(bus, prove)
    assert not [error for error in errors if not isinstance(error, DeviceError)]
    if kind is not FaultKind.LATE_ANSWER:  # of a millisecond, which is in time
        assert bool(errors) is (dict(ENDS)[kind] is not None)


def events_of_a_run(bus: UsbKeyBus, prove: Prove, token: EmulatedToken, layer: FaultLayer) -> int:
    before = token.faults.event_count(layer)
    run(bus, prove)
    return token.faults.event_count(layer) - before


def test_first_command_unanswered_after_plug_in_is_tried_again_by_opening_itself(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove
) -> None:
    token = fleet.create("only")
    for skip_count in (0, 1):  # power on; select
        token.faults.append(Fault(FaultKind.NO_ANSWER, skip_count=skip_count))
        opened = open_only_key(bus)
        prove(opened)
        opened.close()
        assert token.faults.is_empty


def test_key_that_never_answers_is_not_answering_and_can_be_opened_once_it_does(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove
) -> None:
    token = fleet.create("only")
    token.faults.append(Fault(FaultKind.NO_ANSWER, repeat_count=1_000))
    with pytest.raises(NotAnswering) as caught:
        open_only_key(bus)
    assert caught.value.operation
    token.faults.clear()
    prove(open_only_key(bus))


def test_fault_waits_for_its_event_and_happens_as_often_as_it_says(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove
) -> None:
    token = fleet.create("only")
    opened = open_only_key(bus)
    token.faults.append(Fault(FaultKind.BAD_SIGNATURE, skip_count=2, repeat_count=3))
    outcomes = []
    for _ in range(7):
        try:
            prove(opened)
            outcomes.append("good")
        except ProofRejected:
            outcomes.append("bad")
    assert outcomes == ["good", "good", "bad", "bad", "bad", "good", "good"]
