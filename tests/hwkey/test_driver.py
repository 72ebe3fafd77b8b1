"""The production driver over emulated USB: every profile with every algorithm, many keys, and who may hold one."""

from __future__ import annotations

import errno
import secrets
import threading
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import usb.core

from hwkey import (
    Busy,
    KeyClosed,
    Proof,
    SecurityKey,
    SigningAlgorithm,
    Unplugged,
    UsbAddress,
    Waits,
    verify_signature,
)
from hwkey.discovery import UsbKeyBus
from hwkey.emulated import PROFILES, EmulatedBackend, FaultLayer, TokenFleet, emulated_bus

Prove = Callable[[SecurityKey], Proof]
Persist = Callable[[Callable[[], Any]], Any]
SOUND = sorted(name for name, profile in PROFILES.items() if not profile.flaky_per_mille)
QUICK = [name for name in SOUND if not PROFILES[name].answer_delay_ms]


def open_only_key(bus: UsbKeyBus) -> SecurityKey:
    (port,) = bus.scan()
    return bus.open(port)


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("algorithm", list(SigningAlgorithm), ids=lambda algorithm: algorithm.value)
def test_key_of_each_profile_and_algorithm_is_found_opened_and_proven(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove, persist: Persist, profile: str, algorithm: SigningAlgorithm
) -> None:
    token = fleet.create("only", serial="S-1", profile=profile, algorithm=algorithm)
    opened = persist(lambda: open_only_key(bus))
    assert opened.thumbprint == token.thumbprint
    assert opened.algorithm is algorithm
    assert opened.certificate_der == token.certificate_der
    proofs = [persist(lambda: prove(opened)) for _ in range(3)]
    for proof in proofs:
        verify_signature(proof.challenge, proof.signature, token.public_key)
    assert len({proof.challenge.nonce for proof in proofs}) == 3
    opened.close()


def test_port_says_where_and_what_it_is_and_that_it_is_emulated(fleet: TokenFleet, bus: UsbKeyBus) -> None:
    fleet.create("only", serial="S-1", profile="nitrokey3-like")
    (port,) = bus.scan()
    assert port.attach_point == "emulated:101-1.1:0"
    assert (port.usb_path, port.generation, port.serial) == ("101-1.1", 1, "S-1")
    assert port.product == "EMULATED security key (nitrokey3-like)"
    assert port.is_emulated
    assert port.refusal is None


def test_composite_token_has_its_smart_card_on_the_third_interface(fleet: TokenFleet, bus: UsbKeyBus) -> None:
    fleet.create("only", profile="yubikey5-like")
    (port,) = bus.scan()
    assert port.interface_number == 2


def test_extended_card_gets_one_command_a_proof_and_a_short_one_gets_chained_parts(
    waits: Waits, prove: Prove
) -> None:
    counts = {}
    for profile in SOUND:
        fleet = TokenFleet()
        fleet.create("only", profile=profile, algorithm=SigningAlgorithm.RSA2048)
        opened = open_only_key(emulated_bus(fleet, waits=waits))
        before = command_count(fleet)
        prove(opened)
        counts[profile] = command_count(fleet) - before
    assert counts["yubikey5-like"] == 1
    # Two chained commands; 256 bytes and GET RESPONSE for the rest; each answer in parts of 54 bytes.
    assert counts["nitrokey3-like"] > 6
    # Two chained commands, then GET RESPONSE of 256 bytes and of the rest.
    assert counts["t0-reader"] == 4


def command_count(fleet: TokenFleet) -> int:
    return fleet.token("only").faults.event_count(FaultLayer.COMMAND)


def test_second_opening_of_a_key_is_busy_and_works_after_the_first_is_closed(
    fleet: TokenFleet, bus: UsbKeyBus, waits: Waits, prove: Prove
) -> None:
    fleet.create("only")
    first = open_only_key(bus)
    other_bus = emulated_bus(fleet, waits=waits)
    with pytest.raises(Busy) as caught:
        open_only_key(other_bus)
    assert caught.value.where == "101-1.1"
    assert caught.value.code == "busy"
    prove(first)
    first.close()
    prove(open_only_key(other_bus))


def test_busy_key_names_who_holds_it(fleet: TokenFleet, bus: UsbKeyBus, waits: Waits) -> None:
    fleet.create("only")
    first = open_only_key(bus)
    asked = []

    def holders_of(address: UsbAddress) -> tuple[str, ...]:
        asked.append(address.usb_path)
        return ("pcscd (pid 123)",)

    other_bus = UsbKeyBus(EmulatedBackend(fleet), name="emulated", waits=waits, holders_of=holders_of)
    with pytest.raises(Busy, match=r"it is held by pcscd \(pid 123\)") as caught:
        open_only_key(other_bus)
    assert (caught.value.where, caught.value.holders) == ("101-1.1", ("pcscd (pid 123)",))
    first.close()
    open_only_key(other_bus).close()
    assert asked == ["101-1.1"], "whoever can be opened is not asked after"


def test_pulled_key_is_unplugged_for_its_holder_and_its_old_port(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove
) -> None:
    fleet.create("only")
    (port,) = bus.scan()
    opened = bus.open(port)
    fleet.unplug("only")
    with pytest.raises(Unplugged):
        prove(opened)
    opened.close()
    assert bus.scan() == []
    with pytest.raises(Unplugged):
        bus.open(port)


def test_replugged_key_comes_back_under_the_next_generation_with_the_same_identity(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove
) -> None:
    fleet.create("only")
    (old_port,) = bus.scan()
    thumbprint = bus.open(old_port).thumbprint
    fleet.unplug("only")
    fleet.plug("only")  # faster than any scan
    (port,) = bus.scan()
    assert port.attach_point == old_port.attach_point
    assert (old_port.generation, port.generation) == (1, 2)
    assert port.address.address != old_port.address.address
    with pytest.raises(Unplugged):
        bus.open(old_port)
    again = bus.open(port)
    assert again.thumbprint == thumbprint
    prove(again)


def test_closed_key_says_so_and_may_be_closed_twice(fleet: TokenFleet, bus: UsbKeyBus, prove: Prove) -> None:
    fleet.create("only")
    opened = open_only_key(bus)
    opened.close()
    opened.close()
    with pytest.raises(KeyClosed):
        prove(opened)


def test_wrong_nonce_is_our_own_mistake_and_leaves_the_key_usable(
    fleet: TokenFleet, bus: UsbKeyBus, prove: Prove
) -> None:
    fleet.create("only")
    opened = open_only_key(bus)
    with pytest.raises(ValueError, match="nonce"):
        opened.prove(nonce=b"short", broker_id="b", purpose="p")
    prove(opened)


def test_unplug_wakes_a_blocked_read_with_enodev(fleet: TokenFleet) -> None:
    fleet.create("only", profile="nitrokey3-like")
    backend = EmulatedBackend(fleet)
    (device,) = backend.enumerate_devices()
    opened = backend.open_device(device)
    backend.claim_interface(opened, 0)
    caught: list[usb.core.USBError] = []
    is_reading = threading.Event()

    def read() -> None:
        is_reading.set()
        try:
            backend.bulk_read(opened, 0x81, 0, array("B", bytes(64)), 60_000)
        except usb.core.USBError as error:
            caught.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    is_reading.wait()
    fleet.unplug("only")
    reader.join(30)
    assert [(error.errno, error.backend_error_code) for error in caught] == [(errno.ENODEV, -4)]


def test_plug_and_unplug_end_a_wait_for_change(fleet: TokenFleet, bus: UsbKeyBus) -> None:
    assert bus.scan() == []
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(bus.wait_change(60)))
    waiter.start()
    fleet.create("only")
    waiter.join(30)
    assert woken == [True]
    assert len(bus.scan()) == 1
    assert bus.wait_change(0) is False
    fleet.unplug("only")
    assert bus.wait_change(0) is True


def test_change_between_scan_and_wait_is_not_lost(fleet: TokenFleet, bus: UsbKeyBus) -> None:
    bus.scan()
    fleet.create("only")
    assert bus.wait_change(60) is True


def test_wake_ends_a_wait_for_change(bus: UsbKeyBus) -> None:
    bus.scan()
    waiter = threading.Thread(target=bus.wait_change, args=(60,))
    waiter.start()
    bus.wake()
    waiter.join(30)
    assert not waiter.is_alive()


def test_eight_keys_prove_on_eight_threads(fleet: TokenFleet, bus: UsbKeyBus, prove: Prove) -> None:
    for index in range(8):
        fleet.create(f"t{index}", profile=QUICK[index % len(QUICK)])
    start = threading.Barrier(8)

    def work(port_index: int) -> str:
        opened = bus.open(ports[port_index])
        start.wait(30)
        for _ in range(20):
            prove(opened)
        opened.close()
        return opened.thumbprint

    ports = bus.scan()
    with ThreadPoolExecutor(8) as pool:
        thumbprints = set(pool.map(work, range(8)))
    assert thumbprints == {entry.token.thumbprint for entry in fleet.entries()}


def test_two_hundred_tokens_are_scanned_and_proven(fleet: TokenFleet, bus: UsbKeyBus, prove: Prove) -> None:
    for index in range(200):
        fleet.create(f"t{index:03}", profile=QUICK[index % len(QUICK)], algorithm=SigningAlgorithm.ED25519)
    ports = bus.scan()
    assert len({port.attach_point for port in ports}) == 200
    assert len({(port.address.bus, port.address.address) for port in ports}) == 200
    opened = [bus.open(port) for port in ports]
    assert len({prove(one).challenge.thumbprint for one in opened}) == 200
    for one in opened:
        one.close()


def test_nonce_signed_for_one_broker_is_no_proof_for_another(fleet: TokenFleet, bus: UsbKeyBus) -> None:
    fleet.create("only")
    opened = open_only_key(bus)
    nonce = secrets.token_bytes(32)
    mine, theirs = (opened.prove(nonce=nonce, broker_id=name, purpose="presence") for name in ("mine", "theirs"))
    assert mine.challenge.digest != theirs.challenge.digest
