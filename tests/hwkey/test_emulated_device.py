"""The emulated reader and device as a bus sees them: packets, short packets, empty packets, stalls and claims."""

from __future__ import annotations

import errno
from array import array

import pytest
import usb.core
import usb.util

from hwkey.ccid import Chain, CommandStatus, MessageType, split_message, xfr_block
from hwkey.emulated import (
    PROFILES,
    EmulatedBackend,
    EmulatedToken,
    Fault,
    FaultKind,
    SigningAlgorithm,
    TokenFleet,
)
from hwkey.emulated.applet import PivApplet
from hwkey.emulated.reader import EmulatedReader

POWER_ON = bytes.fromhex("62 00000000 00 00 01 0000")
SELECT = bytes.fromhex("00A404000BA00000030800001000010000")
GET_CERTIFICATE = bytes.fromhex("00CB3FFF055C035FC10100")


def reader_of(profile: str) -> EmulatedReader:
    token = EmulatedToken.create(serial="S", profile=profile)
    card = PivApplet(token.profile, token.certificate_der, token, token.faults)
    return EmulatedReader(token.profile, card, token.faults)


def taken(reader: EmulatedReader) -> list[bytes]:
    packets = [packet.data for packet in reader.packets]
    reader.packets.clear()
    return packets


def test_answer_shorter_than_a_packet_is_one_short_packet() -> None:
    reader = reader_of("nitrokey3-like")
    reader.receive(POWER_ON)
    assert [len(packet) for packet in taken(reader)] == [10 + 19]


def test_answer_of_exactly_64_bytes_is_followed_by_an_empty_packet() -> None:
    reader = reader_of("nitrokey3-like")
    reader.receive(POWER_ON)
    reader.receive(xfr_block(0, 1, SELECT).encode())
    taken(reader)
    reader.receive(xfr_block(0, 2, GET_CERTIFICATE).encode())
    first, empty = taken(reader)
    split = split_message(first, 3072)
    assert split is not None
    assert (len(first), empty, split[0].chain) == (64, b"", Chain.BEGINS)


def test_long_answer_of_a_reader_without_chaining_is_whole_packets_and_a_short_one() -> None:
    reader = reader_of("yubikey5-like")
    reader.receive(POWER_ON)
    reader.receive(xfr_block(0, 1, SELECT).encode())
    taken(reader)
    reader.receive(xfr_block(0, 2, GET_CERTIFICATE).encode())
    sizes = [len(packet) for packet in taken(reader)]
    assert sizes == [64, 64, 64, 64, 10 + 256 + 2 - 256]


def test_command_may_come_in_packets_of_any_size() -> None:
    reader = reader_of("nitrokey3-like")
    for index in range(len(POWER_ON)):
        assert not reader.packets
        reader.receive(POWER_ON[index : index + 1])
    assert reader.packets


def test_block_to_an_unpowered_card_fails_as_mute() -> None:
    reader = reader_of("nitrokey3-like")
    reader.receive(xfr_block(0, 1, SELECT).encode())
    split = split_message(taken(reader)[0], 3072)
    assert split is not None
    assert (split[0].command_status, split[0].error_code) == (CommandStatus.FAILED, 0xFE)


def test_message_of_an_unknown_type_fails_as_not_supported() -> None:
    reader = reader_of("nitrokey3-like")
    reader.receive(bytes.fromhex("6B 00000000 00 05 00 00 00"))
    split = split_message(taken(reader)[0], 3072)
    assert split is not None
    assert (split[0].message_type, split[0].command_status) == (MessageType.SLOT_STATUS, CommandStatus.FAILED)


def applet_of(profile: str, algorithm: SigningAlgorithm = SigningAlgorithm.P256) -> PivApplet:
    token = EmulatedToken.create(serial="S", profile=profile, algorithm=algorithm)
    return PivApplet(token.profile, token.certificate_der, token, token.faults)


def test_nitrokey_like_applet_does_not_know_the_bare_prefix_and_answers_select_by_61xx() -> None:
    applet = applet_of("nitrokey3-like")
    assert applet.exchange(bytes.fromhex("00A4040005A00000030800")).hex() == "6a82"
    assert applet.exchange(SELECT)[-2] == 0x61
    assert applet_of("yubikey5-like").exchange(bytes.fromhex("00A4040005A00000030800"))[-2:].hex() == "9000"


@pytest.mark.parametrize(
    ("command", "status_word"),
    [
        ("00CB3FFF035C017E00", "9000"),
        ("00CB3FFF055C035FC10200", "6a82"),
        ("00CB3FFF015C00", "6a80"),
        ("0087119E047C0281FF00", "6a80"),
        ("0087119E067C0482008100 00", "6a80"),
        ("0087079E067C048200810000", "6a86"),
        ("0087119A067C048200810000", "6a86"),
        ("00200080", "6d00"),
        ("00C0000000", "6985"),
        ("00", "6700"),
    ],
)
def test_applet_answers_what_a_card_answers(command: str, status_word: str) -> None:
    applet = applet_of("yubikey5-like")
    applet.exchange(SELECT)
    assert applet.exchange(bytes.fromhex(command))[-2:].hex() == status_word


def test_applet_answers_nothing_before_it_is_selected() -> None:
    assert applet_of("yubikey5-like").exchange(GET_CERTIFICATE).hex() == "6985"


@pytest.fixture
def device(fleet: TokenFleet) -> usb.core.Device:
    fleet.create("only", serial="S-1", profile="yubikey5-like")
    return usb.core.find(backend=EmulatedBackend(fleet), idVendor=0x1209)


def test_pyusb_prints_the_whole_device(device: usb.core.Device) -> None:
    text = str(device)
    assert "EMULATED security key (yubikey5-like)" in text
    assert text.count("INTERFACE") == 3
    assert device.serial_number == "S-1"
    assert "EMULATED" in device.manufacturer


def test_read_ends_on_a_short_packet_or_a_full_buffer(fleet: TokenFleet, device: usb.core.Device) -> None:
    device.write(0x02, POWER_ON)
    atr_message = device.read(0x82, 3072, 1_000)
    device.write(0x02, xfr_block(0, 1, SELECT).encode())
    device.read(0x82, 3072, 1_000)
    device.write(0x02, xfr_block(0, 2, GET_CERTIFICATE).encode())
    assert len(atr_message) < 64
    assert [len(device.read(0x82, size, 1_000)) for size in (64, 128, 3072)] == [64, 128, 268 - 192]


def test_buffer_that_is_not_a_multiple_of_the_packet_size_overflows(device: usb.core.Device) -> None:
    device.write(0x02, POWER_ON)
    with pytest.raises(usb.core.USBError) as caught:
        device.read(0x82, 10, 1_000)
    assert (caught.value.errno, caught.value.backend_error_code) == (errno.EOVERFLOW, -8)


def test_read_of_nothing_times_out_with_the_errno_of_libusb(device: usb.core.Device) -> None:
    usb.util.claim_interface(device, 2)
    with pytest.raises(usb.core.USBTimeoutError) as caught:
        device.read(0x82, 64, 1)
    assert (caught.value.errno, caught.value.backend_error_code) == (errno.ETIMEDOUT, -7)


def test_stalled_endpoint_stays_halted_until_it_is_cleared(fleet: TokenFleet, device: usb.core.Device) -> None:
    fleet.token("only").faults.append(Fault(FaultKind.STALL))
    for _ in range(2):
        with pytest.raises(usb.core.USBError) as caught:
            device.write(0x02, POWER_ON)
        assert (caught.value.errno, caught.value.backend_error_code) == (errno.EPIPE, -9)
    device.clear_halt(0x02)
    device.write(0x02, POWER_ON)
    assert device.read(0x82, 64, 1_000)


def test_interrupt_endpoint_tells_that_a_card_is_in_the_slot(device: usb.core.Device) -> None:
    usb.util.claim_interface(device, 2)
    assert bytes(device.read(0x83, 8, 1_000)) == bytes.fromhex("5003")
    with pytest.raises(usb.core.USBTimeoutError):
        device.read(0x83, 8, 1)


def test_claim_is_exclusive_across_openings_and_ends_with_the_opening(fleet: TokenFleet) -> None:
    fleet.create("only")
    backend = EmulatedBackend(fleet)
    (token,) = backend.enumerate_devices()
    first, second = backend.open_device(token), backend.open_device(token)
    backend.claim_interface(first, 2)
    backend.claim_interface(first, 2)
    with pytest.raises(usb.core.USBError) as caught:
        backend.claim_interface(second, 2)
    assert (caught.value.errno, caught.value.backend_error_code) == (errno.EBUSY, -6)
    backend.close_device(first)
    backend.claim_interface(second, 2)


def test_transfer_without_a_claim_and_to_a_missing_endpoint_are_refused(fleet: TokenFleet) -> None:
    fleet.create("only")
    backend = EmulatedBackend(fleet)
    (token,) = backend.enumerate_devices()
    opened = backend.open_device(token)
    with pytest.raises(usb.core.USBError):
        backend.bulk_write(opened, 0x02, 2, array("B", POWER_ON), 100)
    backend.claim_interface(opened, 2)
    with pytest.raises(usb.core.USBError) as caught:
        backend.bulk_write(opened, 0x05, 2, array("B", POWER_ON), 100)
    assert caught.value.errno == errno.ENOENT


def test_unknown_control_request_stalls(device: usb.core.Device) -> None:
    for request_type, request, value in ((0x80, 0x06, 0x0399), (0x80, 0x06, 0x0600), (0xC0, 1, 0), (0x21, 0x02, 0)):
        with pytest.raises(usb.core.USBError) as caught:
            device.ctrl_transfer(request_type, request, value, 2, 64 if request_type & 0x80 else None)
        assert caught.value.errno == errno.EPIPE


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_says_emulated_in_product_and_manufacturer(profile: str) -> None:
    assert PROFILES[profile].product.startswith("EMULATED")
