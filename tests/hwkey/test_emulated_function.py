"""The packet face of an emulated token, as a USB/IP server or a kernel meets it: control requests, descriptors, packets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import usb.core

from hwkey.ccid import CcidMessage, MessageType, split_message, xfr_block
from hwkey.emulated import PROFILES, EmulatedBackend, EmulatedToken, Fault, FaultKind, FaultScript, TokenFleet
from hwkey.emulated.function import Halted, InTransfer, Overrun, PulledOut, Setup, TokenFunction

POWER_ON = bytes.fromhex("62 00000000 00 00 01 0000")
TOKENS = {name: EmulatedToken.create(serial="S-1", profile=name) for name in sorted(PROFILES)}


def function_of(profile: str) -> TokenFunction:
    return TokenFunction(replace(TOKENS[profile], faults=FaultScript()))


def faulty(profile: str, *faults: Fault) -> TokenFunction:
    token = replace(TOKENS[profile], faults=FaultScript())
    for fault in faults:
        token.faults.append(fault)
    return TokenFunction(token)


def setup(hex_text: str) -> Setup:
    return Setup.decode(bytes.fromhex(hex_text))


# Control requests, in the eight bytes that a host sends

GET_DEVICE, GET_CONFIGURATION = "80 06 0001 0000 1200", "80 06 0002 0000 0002"


def test_setup_packet_is_read_little_endian_and_has_eight_bytes() -> None:
    assert setup("80 06 0302 0904 FF00") == Setup(0x80, 0x06, 0x0203, 0x0409, 0xFF)
    for size in (0, 7, 9):
        with pytest.raises(ValueError, match="8 bytes"):
            Setup.decode(bytes(size))


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_device_descriptor_is_that_of_chapter_9_6_1(profile: str) -> None:
    raw = function_of(profile).control(setup(GET_DEVICE))
    release = PROFILES[profile].device_release.to_bytes(2, "little").hex()
    assert raw.hex() == f"1201000200000040091201 00{release}01020301".replace(" ", "")


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_configuration_is_as_long_as_it_says_and_has_what_pyusb_is_shown(profile: str) -> None:
    raw = function_of(profile).control(setup(GET_CONFIGURATION))
    assert int.from_bytes(raw[2:4], "little") == len(raw)
    fleet = TokenFleet()
    fleet.create("only", profile=profile)
    shown = usb.core.find(backend=EmulatedBackend(fleet))[0]
    assert shown.wTotalLength == len(raw)
    assert parsed(raw) == [
        (one.bInterfaceNumber, one.bInterfaceClass, bytes(one.extra_descriptors), [endpoint.bEndpointAddress for endpoint in one])
        for one in shown
    ]


def parsed(raw: bytes) -> list[tuple[int, int, bytes, list[int]]]:
    """Number, class, class descriptors and endpoints of each interface, by walking the lengths as a kernel does."""
    interfaces: list[tuple[int, int, bytes, list[int]]] = []
    position = 9
    while position < len(raw):
        size, kind = raw[position], raw[position + 1]
        item = raw[position : position + size]
        if kind == 4:
            interfaces.append((item[2], item[5], b"", []))
        elif kind == 5:
            interfaces[-1][3].append(item[2])
        else:
            number, interface_class, extra, endpoints = interfaces[-1]
            interfaces[-1] = (number, interface_class, extra + item, endpoints)
        position += size
    assert position == len(raw)
    return interfaces


def test_first_request_of_a_host_gets_only_the_eight_bytes_that_it_asks_for() -> None:
    assert function_of("slow").control(setup("80 06 0001 0000 0800")).hex() == "1201000200000040"


def test_strings_say_emulated_and_the_serial_and_unknown_ones_stall() -> None:
    function = function_of("flaky")
    assert function.control(setup("80 06 0003 0000 FF00")).hex() == "04030904"
    texts = [function.control(setup(f"80 06 0{index}03 0904 FF00"))[2:].decode("utf-16-le") for index in (1, 2, 3)]
    assert texts == ["Usher (EMULATED)", "EMULATED security key (flaky)", "S-1"]
    with pytest.raises(Halted):
        function.control(setup("80 06 0403 0904 FF00"))


def test_configuration_is_set_and_read_back_and_an_unknown_one_stalls() -> None:
    function = function_of("nitrokey3-like")
    assert function.control(setup("80 08 0000 0000 0100")) == b"\x00"
    assert function.control(setup("00 09 0100 0000 0000")) == b""
    assert function.control(setup("80 08 0000 0000 0100")) == b"\x01"
    with pytest.raises(Halted):
        function.control(setup("00 09 0200 0000 0000"))


def test_halt_is_set_reported_and_cleared_by_standard_requests() -> None:
    function = function_of("nitrokey3-like")
    status = setup("82 00 0000 8100 0200")
    assert function.control(status) == b"\x00\x00"
    function.control(setup("02 03 0000 8100 0000"))
    assert function.control(status) == b"\x01\x00"
    with pytest.raises(Halted):
        function.packet_in(0x81, 0)
    function.control(setup("02 01 0000 8100 0000"))
    assert function.control(status) == b"\x00\x00"
    assert function.packet_in(0x81, 0) is None


@pytest.mark.parametrize(
    "unknown",
    [
        "80 06 0006 0000 0A00",  # device qualifier: full speed only
        "80 06 000F 0000 0500",  # BOS
        "80 06 0102 0000 0900",  # a second configuration
        "01 0B 0100 0000 0000",  # an alternate setting
        "02 01 0100 8100 0000",  # another feature
        "02 03 0100 8100 0000",
        "21 01 0000 0700 0000",  # abort to another interface
        "A1 02 0000 0000 0400",  # CCID GET_CLOCK_FREQUENCIES
        "C0 01 0000 0000 0100",  # vendor
    ],
)
def test_request_that_the_function_does_not_know_stalls(unknown: str) -> None:
    with pytest.raises(Halted):
        function_of("nitrokey3-like").control(setup(unknown))


# Packets


def read(function: TokenFunction, now_ns: int = 0) -> list[bytes]:
    """Every packet that is ready."""
    packets = []
    while (packet := function.packet_in(function.bulk_in, now_ns)) is not None:
        packets.append(packet)
    return packets


def send(function: TokenFunction, message: CcidMessage | bytes, now_ns: int = 0) -> None:
    data = message if isinstance(message, bytes) else message.encode()
    for start in range(0, len(data), 64):
        function.packet_out(function.bulk_out, data[start : start + 64], now_ns)


def answered(packets: list[bytes]) -> CcidMessage:
    split = split_message(b"".join(packets), 3_072)
    assert split is not None
    assert split[1] == b""
    return split[0]


def exchanged(function: TokenFunction, sequence: int, block: str) -> str:
    send(function, xfr_block(0, sequence, bytes.fromhex(block)))
    return answered(read(function)).data.hex().upper()


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_power_on_gives_the_atr_in_one_short_packet(profile: str) -> None:
    function = function_of(profile)
    function.packet_out(function.bulk_out, POWER_ON, 0)
    (packet,) = read(function) or [b""]
    assert packet[:1] == b"\x80"
    assert b"EMULATE" in packet


T0_SELECT = "00A404000BA000000308000010000100"


def test_t0_card_speaks_tpdus_byte_by_byte() -> None:
    function = function_of("t0-reader")
    send(function, POWER_ON)
    assert answered(read(function)).data == b"\x3b\x0a\x80\x58EMULATED"
    assert exchanged(function, 1, T0_SELECT) == "610A"
    assert exchanged(function, 2, "00C0000000") == "6C0A"  # T=0 transfers what is asked for, so the card names the size
    assert exchanged(function, 3, "00C000000A") == "61084F06000010000100" + "9000"
    assert exchanged(function, 4, "00C000000A") == "6985"
    assert exchanged(function, 5, "00CB3FFF055C035FC101") == "6100"
    assert len(exchanged(function, 6, "00C0000000")) == 2 * 258
    assert exchanged(function, 7, "FF00FF") == "FF00FF"  # PPS


@pytest.mark.parametrize("block", ["", "00A40400", "00CB3FFF055C035FC10100", "00CB3FFF055C035FC1"])
def test_block_that_is_no_t0_tpdu_fails_as_of_wrong_length(block: str) -> None:
    function = function_of("t0-reader")
    send(function, POWER_ON)
    read(function)
    send(function, xfr_block(0, 1, bytes.fromhex(block)))
    failed = answered(read(function))
    assert (failed.command_status, failed.error_code) == (1, 0x01)


def test_reader_sets_the_parameters_of_its_cards_protocol_and_no_others() -> None:
    function = function_of("t0-reader")
    send(function, bytes.fromhex("61 05000000 00 00 00 0000 1100000A00"))
    assert answered(read(function)).data.hex() == "1100000a00"
    for wrong in ("61 07000000 00 01 01 0000 11100015 00FE00", "61 04000000 00 02 00 0000 1100000A"):
        send(function, bytes.fromhex(wrong))
        refused = answered(read(function))
        assert (refused.message_type, refused.command_status, refused.error_code) == (MessageType.PARAMETERS, 1, 7)


def test_transfer_ends_on_a_short_packet_an_empty_one_or_a_full_buffer_and_overruns() -> None:
    assert InTransfer(128).take(b"x" * 63)
    ending_empty = InTransfer(192)
    assert [ending_empty.take(packet) for packet in (bytes(64), bytes(64), b"")] == [False, False, True]
    full = InTransfer(128)
    assert [full.take(bytes(64)), full.take(bytes(64))] == [False, True]
    with pytest.raises(Overrun):
        InTransfer(10).take(bytes(11))


def test_packets_that_are_late_say_when_they_are_due() -> None:
    function = faulty("nitrokey3-like", Fault(FaultKind.LATE_ANSWER, delay_ms=700))
    send(function, POWER_ON, now_ns=1_000_000)
    assert read(function, 700_000_000) == []
    assert function.due_ns(function.bulk_in) == 701_000_000
    assert len(read(function, 701_000_000)) == 1
    assert function.due_ns(function.bulk_in) is None


def test_abort_forgets_what_waits_to_be_read() -> None:
    function = function_of("nitrokey3-like")
    send(function, POWER_ON)
    function.control(setup("21 01 0000 0000 0000"))
    assert read(function) == []


# Faults of single packets


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (FaultKind.SPLIT_PACKET, [14, 15]),
        (FaultKind.EMPTY_PACKET, [0, 29]),
        (FaultKind.LOST_PACKET, []),
        (FaultKind.NO_ANSWER, []),
        (FaultKind.STALE_PACKET, [64, 29]),
        (FaultKind.TRUNCATED_ANSWER, [14]),
        (FaultKind.STALE_ANSWER, [29, 29]),
    ],
)
def test_fault_shows_in_the_packets_as_its_name_says(kind: FaultKind, sizes: list[int]) -> None:
    skip_count = 1 if kind in (FaultKind.SPLIT_PACKET, FaultKind.EMPTY_PACKET, FaultKind.LOST_PACKET) else 0
    function = faulty("nitrokey3-like", Fault(kind, skip_count=skip_count))  # the first packet is the command's
    send(function, POWER_ON)
    assert [len(packet) for packet in read(function)] == sizes


def test_unended_answer_lacks_the_empty_packet_and_nothing_else() -> None:
    sound, unended = function_of("nitrokey3-like"), faulty("nitrokey3-like", Fault(FaultKind.UNENDED_ANSWER, skip_count=2))
    for function in (sound, unended):
        send(function, POWER_ON)
        read(function)
        exchanged(function, 1, T0_SELECT + "00")
        send(function, xfr_block(0, 2, bytes.fromhex("00CB3FFF055C035FC10100")))
    packets = read(sound)
    assert [len(packet) for packet in packets] == [64, 0]
    assert read(unended) == packets[:1]


def test_stall_halts_its_endpoint_and_an_unplug_pulls_the_token_out() -> None:
    function = faulty("nitrokey3-like", Fault(FaultKind.STALL, skip_count=1))
    send(function, POWER_ON)
    for _ in range(2):
        with pytest.raises(Halted):
            function.packet_in(function.bulk_in, 0)
    function.clear_halt(function.bulk_in)
    assert len(read(function)) == 1
    with pytest.raises(PulledOut):
        send(faulty("nitrokey3-like", Fault(FaultKind.UNPLUG)), POWER_ON)


def test_interrupt_endpoint_tells_of_the_card_once_and_a_token_without_one_stalls_there() -> None:
    function = function_of("t0-reader")
    assert (function.packet_in(0x83, 0), function.packet_in(0x83, 0)) == (bytes.fromhex("5003"), None)
    assert function_of("nitrokey3-like").interrupt_in == 0
    for endpoint in (0x00, 0x83):
        with pytest.raises(Halted):
            function_of("nitrokey3-like").packet_in(endpoint, 0)
