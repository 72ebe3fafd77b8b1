"""gRPC itself: bytes that are no message, unknown methods, compression, sizes, metadata, deadlines, cancellation."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.contract.harness import CALL_S, Door, KeepAlive, fresh_id, refused

SERVICE = "/broker.v1.Sessions"
UNARY = ("Open", "Renew", "Acquire", "Release", "Close")
MESSAGE_SIZE_MAX = 64 * 1024


@pytest.fixture
def unchanged(door: Door) -> Iterator[Door]:
    """One session is open; afterwards it is the only one and the broker still serves."""
    witness = door.grant(["platform"], user="witness")
    yield door
    door.renew(witness.session_id)
    assert door.session_count() == 1
    assert door.in_use("platform") == (1,)


def raw(door: Door, method: str) -> Any:
    """A unary call of bytes."""
    return door.channel().unary_unary(f"{SERVICE}/{method}")


def failure(call: Any, message: bytes, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=CALL_S, **options)
    return caught.value


# --- bytes that are no message ------------------------------------------------------------------------------


def field(number: int, wire_type: int, payload: bytes) -> bytes:
    return bytes([number << 3 | wire_type]) + payload


def text_field(number: int, data: bytes) -> bytes:
    return field(number, 2, bytes([len(data)]) + data)


GARBAGE = {
    "a-length-past-the-end": field(1, 2, b"\x7fshort"),
    "an-endless-varint": field(4, 0, b"\xff" * 11),
    "a-group-that-never-ends": field(9, 3, b""),
    "field-number-zero": b"\x02\x01x",
    "a-reserved-wire-type": field(1, 7, b"\x00"),
    "noise": random.Random(7600).randbytes(200),
}


@pytest.mark.parametrize("method", UNARY)
@pytest.mark.parametrize("message", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_as_an_invalid_argument(unchanged: Door, method: str, message: bytes) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="message"):
        raw(unchanged, method)(message, timeout=CALL_S)


BAD_UTF8 = {
    "user": (text_field(2, text_field(1, b"an\xffna"))),
    "product": (text_field(3, text_field(1, b"\xc0\x80"))),
    "instance": (text_field(4, b"\xed\xa0\x80")),
}


@pytest.mark.parametrize("broken", BAD_UTF8.values(), ids=BAD_UTF8)
def test_text_that_is_no_utf8_is_refused(unchanged: Door, broken: bytes) -> None:
    message = unchanged.open_request(user="boris").SerializeToString() + broken
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        raw(unchanged, "Open")(message, timeout=CALL_S)


def test_random_bytes_never_open_anything_or_break_the_broker(unchanged: Door) -> None:
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    call = raw(unchanged, "Open")
    good = unchanged.open_request(products=["crm"], user="boris", request_id=bytes(16)).SerializeToString()
    codes = set()
    for _ in range(200):
        message = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            message[chance.randrange(len(message))] = chance.randrange(256)
        try:
            answer = call(bytes(message), timeout=CALL_S)
            _close_if_granted(unchanged, answer)
        except grpc.RpcError as error:
            codes.add(error.code())
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT}, f"seed {seed}: {codes}"


def _close_if_granted(door: Door, answer: bytes) -> None:
    """A damaged request may still be a good one, with another user or product."""
    opened = door.api.sessions.OpenResponse.FromString(answer)
    if opened.WhichOneof("result") == "grant" and not opened.grant.replayed:
        door.close(opened.grant.session_id)


def test_an_empty_message_is_a_request_without_fields(unchanged: Door) -> None:
    for method, name in (("Open", "request_id"), ("Renew", "session_id"), ("Close", "session_id")):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field=name):
            raw(unchanged, method)(b"", timeout=CALL_S)


def test_fields_of_a_newer_protocol_are_skipped(door: Door) -> None:
    newer = door.open_request().SerializeToString() + b"\xa2\x06\x05hello" + b"\xa8\x06\x2a"
    answer = door.api.sessions.OpenResponse.FromString(raw(door, "Open")(newer, timeout=CALL_S))
    assert answer.WhichOneof("result") == "grant"


def test_garbage_on_a_stream_ends_that_stream_only(unchanged: Door) -> None:
    grant = unchanged.broker.sessions()
    call = unchanged.channel().stream_stream(f"{SERVICE}/KeepAlive")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        list(call(iter([GARBAGE["noise"]]), timeout=CALL_S))
    assert unchanged.broker.sessions()[0].public_id == grant[0].public_id


# --- methods and messages of the wrong kind -----------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"{SERVICE}/NoSuchMethod",
        "/broker.v1.NoSuchService/Open",
        "/broker.v9.Sessions/Open",
        f"{SERVICE}/open",
        "/",
    ],
)
def test_an_unknown_method_is_unimplemented(unchanged: Door, path: str) -> None:
    call = unchanged.channel().unary_unary(path)
    assert failure(call, b"").code() is grpc.StatusCode.UNIMPLEMENTED


def test_admin_is_not_served_on_the_client_port(unchanged: Door) -> None:
    call = unchanged.channel().unary_unary("/broker.v1.Admin/ListSessions")
    error = failure(call, b"", metadata=unchanged.broker.admin_metadata)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_huge_message_is_refused(unchanged: Door) -> None:
    message = unchanged.open_request(products=["crm"]).SerializeToString()
    message += b"\xa2\x06" + _varint(MESSAGE_SIZE_MAX) + bytes(MESSAGE_SIZE_MAX)
    assert failure(raw(unchanged, "Open"), message).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_message_just_under_the_bound_is_served(door: Door) -> None:
    message = door.open_request().SerializeToString()
    padding = MESSAGE_SIZE_MAX - len(message) - 10
    message += b"\xa2\x06" + _varint(padding) + bytes(padding)
    assert len(message) <= MESSAGE_SIZE_MAX
    answer = door.api.sessions.OpenResponse.FromString(raw(door, "Open")(message, timeout=CALL_S))
    assert answer.WhichOneof("result") == "grant"


def test_two_messages_on_a_unary_call_open_nothing(unchanged: Door) -> None:
    message = unchanged.open_request(products=["crm"]).SerializeToString()
    call = unchanged.channel().stream_unary(f"{SERVICE}/Open")
    code = _code_of(unchanged, lambda: call(iter([message, message]), timeout=CALL_S))
    assert code in (  # gRPC lets a server answer the first and ignore the rest
        grpc.StatusCode.OK,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.CANCELLED,
    )


def test_a_unary_call_without_a_message_opens_nothing(unchanged: Door) -> None:
    call = unchanged.channel().stream_unary(f"{SERVICE}/Open")
    with pytest.raises(grpc.RpcError):
        call(iter([]), timeout=1.0)  # a server may refuse it at once, or leave it to its deadline


# --- compression --------------------------------------------------------------------------------------------


def test_a_compressed_message_is_served_or_refused_as_grpc_says(unchanged: Door) -> None:
    """UNIMPLEMENTED is the answer to an encoding that a server does not take (gRPC compression specification)."""
    message = unchanged.open_request(products=["crm"], instance_id="i" * 60).SerializeToString()
    call = raw(unchanged, "Open")
    code = _code_of(unchanged, lambda: call(message, timeout=CALL_S, compression=grpc.Compression.Gzip))
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED)


def test_a_compressed_bomb_is_refused_by_its_real_size(unchanged: Door) -> None:
    message = unchanged.open_request(products=["crm"]).SerializeToString()
    message += b"\xa2\x06" + _varint(8 << 20) + bytes(8 << 20)  # 8 MiB of zeros: 8 KiB on the wire
    error = failure(raw(unchanged, "Open"), message, compression=grpc.Compression.Gzip)
    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED)


# --- metadata -----------------------------------------------------------------------------------------------


def test_metadata_that_means_nothing_here_is_ignored(door: Door) -> None:
    junk = (
        ("x-request-id", "42"),
        ("authorization", "Bearer not-a-token"),
        ("user-agent-extra", "x" * 1000),
        ("junk-bin", bytes(range(256))),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    )
    answer = door.stub.Open(door.open_request(), timeout=CALL_S, metadata=junk)
    assert answer.WhichOneof("result") == "grant"


def test_a_flood_of_metadata_is_refused(unchanged: Door) -> None:
    flood = tuple((f"x-{index}", "y" * 1000) for index in range(64))
    request = unchanged.open_request(products=["crm"])
    with pytest.raises(grpc.RpcError):
        unchanged.stub.Open(request, timeout=CALL_S, metadata=flood)


# --- deadlines and cancellation -----------------------------------------------------------------------------


def test_opens_whose_deadline_passes_take_no_second_seat(door: Door) -> None:
    """Each may or may not have been carried out when its deadline passes; its retry with the same request_id settles it."""
    requests = [door.open_request(user=f"user-{index}") for index in range(15)]
    for index, request in enumerate(requests):
        code = _code_within(door, request, index / 5000)
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED)
    answers = [door.stub.Open(request, timeout=CALL_S) for request in requests]
    assert {answer.WhichOneof("result") for answer in answers} == {"grant"}
    assert door.in_use("platform") == (15,)


def test_cancelled_opens_take_no_second_seat(door: Door) -> None:
    requests = [door.open_request(user=f"user-{index}") for index in range(10)]
    calls = [door.stub.Open.future(request, timeout=CALL_S) for request in requests]
    for call in calls:
        call.cancel()
    answers = [door.stub.Open(request, timeout=CALL_S) for request in requests]
    assert {answer.WhichOneof("result") for answer in answers} == {"grant"}
    assert door.in_use("platform") == (10,)


def test_a_stream_ends_at_its_deadline_and_the_session_lives_on(door: Door) -> None:
    grant = door.grant()
    sessions = door.api.sessions
    open_end = threading.Event()

    def messages() -> Iterator[Any]:
        renewal = sessions.RenewRequest(session_id=grant.session_id)
        yield sessions.KeepAliveRequest(renewals=[renewal])
        open_end.wait(CALL_S)

    with pytest.raises(grpc.RpcError) as caught:
        list(door.stub.KeepAlive(messages(), timeout=0.5))
    open_end.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    door.renew(grant.session_id)


def test_a_cancelled_stream_ends_no_session(door: Door) -> None:
    grant = door.grant()
    with KeepAlive(door) as stream:
        stream.renew(grant.session_id)
        stream.call.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            next(stream.call)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    door.renew(grant.session_id)


def test_calls_on_one_connection_do_not_wait_for_each_other(door: Door) -> None:
    """A hundred calls under way at once, answered each with its own session."""
    requests = [door.open_request(["desk"], user="anna", host=f"desk-{index}") for index in range(2)]
    requests += [door.open_request(["no-such-product"], request_id=fresh_id()) for _ in range(98)]
    calls = [door.stub.Open.future(request, timeout=CALL_S) for request in requests]
    outcomes = [call.result().WhichOneof("result") for call in calls]
    assert outcomes == ["grant", "grant"] + ["denial"] * 98


def _code_of(door: Door, open_it: Callable[[], bytes]) -> grpc.StatusCode:
    """The status of a raw Open; what it opened is closed again."""
    try:
        answer = open_it()
    except grpc.RpcError as error:
        return error.code()
    _close_if_granted(door, answer)
    return grpc.StatusCode.OK


def _code_within(door: Door, request: Any, span_s: float) -> grpc.StatusCode:
    """The status of an Open that has so long."""
    try:
        door.stub.Open(request, timeout=span_s)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])
