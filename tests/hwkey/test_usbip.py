"""USB/IP as bytes: what the protocol's document shows, what a hostile peer sends, and URBs of an emulated token."""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkey import ProtocolError
from hwkey.emulated import PROFILES, EmulatedToken, Fault, FaultKind, FaultScript
from hwkey.emulated.function import PulledOut, TokenFunction
from hwkey.emulated.usbip import (
    FLAG_SHORT_NOT_OK,
    HEADER_SIZE,
    TRANSFER_SIZE_MAX,
    Command,
    CommandReader,
    ImportRequest,
    ListRequest,
    RemoteDevice,
    ReplyReader,
    Submit,
    SubmitReply,
    Unlink,
    UnlinkReply,
    encode_command,
    encode_device_list,
    encode_import_reply,
    encode_import_request,
    encode_list_request,
    encode_reply,
)
from hwkey.emulated.usbip_attach import parse_status
from hwkey.emulated.usbip_device import WAITING_COUNT_MAX, UsbipDevice

DEVICE = RemoteDevice("101-1.1", 101, 2, 0x1209, 0x0001, 0x0503, ((3, 1, 1), (0x0B, 0, 0)))
POWER_ON = bytes.fromhex("62 00000000 00 00 01 0000")
TOKEN = EmulatedToken.create(serial="S-1", profile="nitrokey3-like")
GET_DEVICE = bytes.fromhex("80 06 0001 0000 1200")


def reader_of(data: bytes) -> CommandReader:
    reader = CommandReader()
    reader.feed(data)
    return reader


def header(command: int, number: int, device: int, direction: int, endpoint: int, *rest: int) -> bytes:
    words = (command, number, device, direction, endpoint, *rest)
    return b"".join(word.to_bytes(4, "big") for word in words).ljust(HEADER_SIZE, b"\0")


# The bytes of the document (docs.kernel.org/usb/usbip_protocol.html)


def test_questions_are_those_of_the_document() -> None:
    assert encode_list_request().hex() == "0111800500000000"
    assert encode_import_request("3-2").hex() == "0111800300000000" + "332d32".ljust(64, "0")
    assert reader_of(encode_list_request()).next_operation() == ListRequest()
    assert reader_of(encode_import_request("3-2")).next_operation() == ImportRequest("3-2")


def test_interrupt_in_urb_of_the_document_is_read() -> None:
    data = bytes.fromhex(
        "00000001 00000d05 0001000f 00000001 00000001 00000200 00000040 ffffffff 00000000 00000004 0000000000000000"
    )
    assert reader_of(data).next_command() == Submit(0x0D05, 0x0001000F, True, 1, 0x200, 64, bytes(8))


def test_urb_out_of_the_document_carries_its_data_behind_it() -> None:
    head = bytes.fromhex(
        "00000001 00000d06 0001000f 00000000 00000001 00000000 00000040 ffffffff 00000000 00000004 0000000000000000"
    )
    assert reader_of(head + bytes(63)).next_command() is None
    assert reader_of(head + bytes(64)).next_command() == Submit(0x0D06, 0x0001000F, False, 1, 0, 64, bytes(8), bytes(64))


def test_answers_are_48_bytes_and_what_came_in() -> None:
    assert encode_reply(SubmitReply(0x0D06, 0, 64)).hex() == (
        "0000000300000d06000000000000000000000000" + "00000000" + "00000040" + "00000000" + "ffffffff" + "00000000" + "0" * 16
    )
    assert encode_reply(UnlinkReply(7, -errno.ECONNRESET))[20:24] == (-104).to_bytes(4, "big", signed=True)
    assert len(encode_reply(UnlinkReply(7, 0))) == HEADER_SIZE
    assert encode_reply(SubmitReply(1, 0, 3, b"abc")).endswith(b"abc")


def test_device_is_312_bytes_and_its_interfaces_4_each() -> None:
    assert len(encode_import_reply(DEVICE)) == 8 + 312
    listed = encode_device_list([DEVICE, DEVICE])
    assert len(listed) == 12 + 2 * (312 + 2 * 4)
    reader = ReplyReader()
    reader.feed(listed[:-1])
    assert reader.next_device_list() is None
    reader.feed(listed[-1:])
    assert reader.next_device_list() == [DEVICE, DEVICE]


def test_import_answer_is_the_device_or_a_sentence() -> None:
    for device in (DEVICE, None):
        reader = ReplyReader()
        reader.feed(encode_import_reply(device))
        answer = reader.next_import()
        assert (answer == replace(DEVICE, interfaces=())) if device else "no such device" in str(answer)


numbers = st.integers(0, 2**32 - 1)
ins = st.builds(
    Submit, numbers, numbers, st.just(True), st.integers(0, 15), numbers, st.integers(0, TRANSFER_SIZE_MAX), st.binary(min_size=8, max_size=8)
)
outs = st.builds(
    lambda number, device, endpoint, data: Submit(number, device, False, endpoint, 0, len(data), bytes(8), data),
    *(numbers, numbers, st.integers(0, 15), st.binary(max_size=300)),
)
commands = st.one_of(ins, outs, st.builds(Unlink, numbers, numbers, numbers))


@given(st.lists(commands, max_size=8), st.integers(1, 100))
def test_commands_are_read_as_sent_however_they_are_cut(sent: list[Command], piece_size: int) -> None:
    stream = b"".join(encode_command(one) for one in sent)
    reader, read = CommandReader(), []
    for start in range(0, len(stream), piece_size):
        reader.feed(stream[start : start + piece_size])
        while (command := reader.next_command()) is not None:
            read.append(command)
    assert read == sent


# Hostile bytes


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (header(1, 1, 1, 1, 1, 0, TRANSFER_SIZE_MAX + 1), "a transfer of 65537 bytes"),
        (header(1, 1, 1, 0, 1, 0, 0x80000000), "a transfer of -2147483648 bytes"),
        (header(1, 1, 1, 0, 16), "endpoint 16"),
        (header(1, 1, 1, 2, 1), "direction 2"),
        (header(1, 1, 1, 1, 1, 0, 64, 0, 3), "isochronous"),
        (header(3, 1, 1, 0, 0), "command 3"),
    ],
)
def test_command_out_of_bounds_is_refused_before_its_data(data: bytes, detail: str) -> None:
    with pytest.raises(ProtocolError, match=detail):
        reader_of(data).next_command()


@pytest.mark.parametrize("data", ["0106800500000000", "0111000500000000", "ffffffffffffffff"])
def test_question_of_another_version_or_kind_is_refused(data: str) -> None:
    with pytest.raises(ProtocolError):
        reader_of(bytes.fromhex(data)).next_operation()


def test_client_believes_no_endless_list_and_no_answer_that_it_did_not_ask_for() -> None:
    reader = ReplyReader()
    reader.feed(bytes.fromhex("0111000500000000 ffffffff"))
    with pytest.raises(ProtocolError, match="4294967295 devices"):
        reader.next_device_list()
    reader = ReplyReader()
    reader.feed(encode_reply(SubmitReply(9, 0, 0)))
    with pytest.raises(ProtocolError, match="answer to nothing"):
        reader.next_reply()
    reader = ReplyReader()
    reader.expect(Submit(9, 1, True, 1, 0, 4, bytes(8)))
    reader.feed(encode_reply(SubmitReply(9, 0, 5, b"hello")))
    with pytest.raises(ProtocolError, match="5 bytes for 4"):
        reader.next_reply()


@settings(max_examples=300)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_end_in_a_command_a_wait_or_a_protocol_error(data: bytes, is_started: bool) -> None:
    function = TokenFunction(replace(TOKEN, faults=FaultScript()))
    device, reader = UsbipDevice(function, 1), reader_of(data)
    with suppress(ProtocolError):
        if not is_started and reader.next_operation() is None:
            return
        while (command := reader.next_command()) is not None:
            device.take(command, 0)


@settings(max_examples=300)
@given(st.lists(commands, max_size=20))
def test_any_urbs_are_each_answered_once_or_wait(sent: list[Command]) -> None:
    device = UsbipDevice(TokenFunction(replace(TOKEN, faults=FaultScript())), 1)
    answered = []
    for number, one in enumerate(sent):
        answered += [reply.number for reply in device.take(replace(one, number=number, device_number=1), 0)]
    assert len(set(answered)) == len(answered)
    assert set(answered) <= set(range(len(sent)))


# URBs of a token


def device_of(*faults: Fault) -> UsbipDevice:
    token = replace(TOKEN, faults=FaultScript())
    for fault in faults:
        token.faults.append(fault)
    return UsbipDevice(TokenFunction(token), 1)


def bulk_numbers() -> tuple[int, int]:
    function = TokenFunction(TOKEN)
    return function.bulk_out, function.bulk_in & 0x0F


OUT, IN = bulk_numbers()


def read_urb(number: int, size: int = 128, flags: int = 0) -> Submit:
    return Submit(number, 1, True, IN, flags, size, bytes(8))


def write_urb(number: int, data: bytes) -> Submit:
    return Submit(number, 1, False, OUT, 0, len(data), bytes(8), data)


def test_read_that_was_there_first_is_answered_by_the_write_after_its_own_answer() -> None:
    device = device_of()
    assert device.take(read_urb(1), 0) == []
    written, read = device.take(write_urb(2, POWER_ON), 0)
    assert written == SubmitReply(2, 0, len(POWER_ON))
    assert isinstance(read, SubmitReply)
    assert (read.number, read.status, read.data[0], read.size) == (1, 0, 0x80, len(read.data))


def test_short_transfer_is_an_error_for_a_host_that_forbade_it() -> None:
    device = device_of()
    device.take(write_urb(1, POWER_ON), 0)
    (reply,) = device.take(read_urb(2, flags=FLAG_SHORT_NOT_OK), 0)
    assert reply.status == -errno.EREMOTEIO


def test_unlinked_read_is_never_answered_and_an_answered_one_cannot_be_unlinked() -> None:
    device = device_of()
    device.take(read_urb(1), 0)
    device.take(read_urb(2), 0)
    assert device.take(Unlink(3, 1, 1), 0) == [UnlinkReply(3, -errno.ECONNRESET)]
    assert [reply.number for reply in device.take(write_urb(4, POWER_ON), 0)] == [4, 2]
    assert device.take(Unlink(5, 1, 2), 0) == [UnlinkReply(5, 0)]


def test_slow_answer_is_due_and_comes_when_it_is() -> None:
    token = EmulatedToken.create(serial="S-2", profile="slow")
    function = TokenFunction(token)
    device = UsbipDevice(function, 1)
    read = Submit(1, 1, True, function.bulk_in & 0x0F, 0, 512, bytes(8))
    assert device.due_ns() is None
    device.take(Submit(2, 1, False, function.bulk_out, 0, len(POWER_ON), bytes(8), POWER_ON), 0)
    answers = device.take(read, 0)
    select = bytes.fromhex("6f 05000000 00 01 00 0000 00a4040000")
    written = device.take(Submit(3, 1, False, function.bulk_out, 0, len(select), bytes(8), select), 0)
    answers += device.take(replace(read, number=4), 0) + device.take(replace(read, number=5), 0)
    assert [reply.number for reply in answers] == [1, 4]  # the second is a time extension
    assert len(written) == 1
    due_ns = device.due_ns()
    assert due_ns == 125_000_000
    assert device.advance(due_ns - 1) == []
    assert [reply.number for reply in device.advance(due_ns)] == [5]
    assert device.due_ns() is None


def test_control_requests_are_answered_and_unknown_ones_stall() -> None:
    device = device_of()
    (known,) = device.take(Submit(1, 1, True, 0, 0, 18, GET_DEVICE), 0)
    assert isinstance(known, SubmitReply)
    assert known.data[:2] == b"\x12\x01"
    (cut,) = device.take(Submit(2, 1, True, 0, 0, 8, GET_DEVICE), 0)
    assert cut == SubmitReply(2, 0, 8, known.data[:8])
    (unknown,) = device.take(Submit(3, 1, True, 0, 0, 8, bytes.fromhex("c0 33 0000 0000 0800")), 0)
    assert unknown == SubmitReply(3, -errno.EPIPE, 0)


def test_stalled_and_missing_endpoints_are_broken_pipes() -> None:
    device = device_of(Fault(FaultKind.STALL))
    (stalled,) = device.take(write_urb(1, POWER_ON), 0)
    (missing,) = device.take(Submit(2, 1, True, 9, 0, 64, bytes(8)), 0)
    assert stalled.status == missing.status == -errno.EPIPE


def test_more_than_the_room_is_an_overflow() -> None:
    device = device_of()
    device.take(write_urb(1, POWER_ON), 0)
    assert device.take(read_urb(2, size=4), 0) == [SubmitReply(2, -errno.EOVERFLOW, 0)]


def test_scripted_unplug_passes_through() -> None:
    with pytest.raises(PulledOut):
        device_of(Fault(FaultKind.UNPLUG)).take(write_urb(1, POWER_ON), 0)


def test_urb_for_another_device_and_one_too_many_end_the_connection() -> None:
    device = device_of()
    with pytest.raises(ProtocolError, match="not the imported one"):
        device.take(replace(read_urb(1), device_number=2), 0)
    for number in range(WAITING_COUNT_MAX):
        device.take(read_urb(number), 0)
    with pytest.raises(ProtocolError, match="transfers wait"):
        device.take(read_urb(WAITING_COUNT_MAX), 0)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_answer_of_whole_packets_ends_on_an_empty_one(profile: str) -> None:
    token = EmulatedToken.create(serial="S-1", profile=profile)
    function = TokenFunction(replace(token, faults=FaultScript()))
    sent = iter([bytes(64), bytes(64), b""])
    function.packet_in = lambda endpoint, now_ns: next(sent)  # type: ignore[method-assign]
    (reply,) = UsbipDevice(function, 1).take(Submit(1, 1, True, 2, 0, 512, bytes(8)), 0)
    assert reply == SubmitReply(1, 0, 128, bytes(128))


# The kernel's status files

STATUS = """hub port sta spd dev      sockfd local_busid
hs  0000 006 002 00650002 000003 1-1
hs  0001 004 000 00000000 000000 0-0
ss  0008 004 000 00000000 000000 0-0
"""


def test_ports_of_the_kernel_are_read_with_what_is_on_them() -> None:
    used, free, fast = parse_status(STATUS)
    assert (used.number, used.hub, used.is_free, used.device_number, used.name) == (0, "hs", False, 0x650002, "1-1")
    assert (free.number, free.is_free, fast.hub, fast.number) == (1, True, "ss", 8)
