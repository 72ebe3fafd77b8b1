"""Requests in: the codec makes of any bytes what protobuf and the verbs make of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import _wire
from broker.v1 import sessions_pb2
from broker.verbs import requests
from broker.verbs.errors import VerbError
from tests.wire.material import MAKERS, NASTY, damaged, open_request
from tests.wire.reference import SECRET, decoded, decoded_by_wire, refusal

CASES = 200_000
MESSAGES = tuple(MAKERS)

SESSION = bytes(range(32))
REQUEST = bytes(range(16))


def assert_same(message: str, data: bytes, identity: bytes = b"") -> Any:
    ours, theirs = decoded_by_wire(message, data, identity), decoded(message, data, identity)
    assert ours == theirs, f"{message} {data.hex()}"
    return ours


# --- everything against protobuf ----------------------------------------------------------------------------


def test_two_hundred_thousand_random_and_damaged_messages_decode_as_protobuf_says() -> None:
    chance = random.Random(20261)
    pools = {message: [MAKERS[message](chance).SerializeToString() for _ in range(400)] for message in MESSAGES}
    good_count = 0
    for number in range(CASES):
        message = MESSAGES[number % len(MESSAGES)]
        data = chance.choice(pools[message])
        if chance.random() < 0.8:
            data = damaged(chance, data, chance.choice(pools[message]))
        ours = decoded_by_wire(message, data)
        if ours != decoded(message, data):
            assert_same(message, data)
        good_count += ours[0] != "refused"
    assert CASES // 10 < good_count < CASES * 9 // 10, "the damage is too hard or too soft to show anything"


@pytest.mark.parametrize("message", MESSAGES)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80))
def test_any_bytes_are_taken_or_refused_as_protobuf_does(message: str, data: bytes) -> None:
    assert_same(message, data)


@pytest.mark.parametrize("message", MESSAGES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), identity=st.sampled_from((b"", b"CN=ann", b"i" * 128, b"i" * 129)))
def test_any_valid_message_decodes_as_protobuf_says(message: str, seed: int, identity: bytes) -> None:
    assert_same(message, MAKERS[message](random.Random(seed)).SerializeToString(), identity)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_truncation_is_told_as_protobuf_tells_it(message: str) -> None:
    data = MAKERS[message](random.Random(7)).SerializeToString()
    for size in range(min(len(data), 2000) + 1):
        assert_same(message, data[:size])


# --- the encoding itself ------------------------------------------------------------------------------------


def delimited(number: int, content: bytes) -> bytes:
    size = len(content)
    out = bytearray([number << 3 | 2])
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(out) + bytes([size]) + content


def groups(depth: int) -> bytes:
    return b"\x9b\x06" * depth + b"\x9c\x06" * depth


@pytest.mark.parametrize("depth", [1, 2, 97, 98, 99, 100, 101, 5000])
@pytest.mark.parametrize("wrap", [0, 1, 2])
def test_nesting_ends_where_that_of_protobuf_ends(depth: int, wrap: int) -> None:
    data = groups(depth)
    if wrap >= 2:
        data = delimited(2, data)  # a holder
    if wrap >= 1:
        assert_same("OpenRequest", data)
        data = delimited(1, data)
    assert_same("OpenWaitingRequest", data)
    assert_same("KeepAliveRequest", data)


@pytest.mark.parametrize(
    "data", [b"\x2b\x00\x01\x2c", b"\x2b\x02\x01a\x2c", b"\x2b\x03\x04\x2c", b"\x00\x01", b"\x2b\x04", b"\x2b\x80\x00\x01\x2c"]
)
def test_field_number_0_is_malformed_but_inside_a_group_as_for_protobuf(data: bytes) -> None:
    """Found by the differential soak: upb looks at the number only outside of groups."""
    assert_same("RenewRequest", data)


def test_groups_a_hundred_deep_are_refused_and_a_few_are_skipped() -> None:
    renew = delimited(1, SESSION)
    assert _wire.decode("RenewRequest", renew + groups(3))[4] == SESSION
    with pytest.raises(_wire.Refused, match="not a valid"):
        _wire.decode("RenewRequest", renew + groups(101))


@pytest.mark.parametrize("odd", NASTY, ids=bytes.hex)
@pytest.mark.parametrize("message", MESSAGES)
def test_each_odd_encoding_is_judged_as_protobuf_does(message: str, odd: bytes) -> None:
    good = MAKERS[message](random.Random(11)).SerializeToString()
    for data in (odd, odd + good, good + odd, delimited(2, odd), delimited(3, odd), delimited(1, delimited(2, odd)), delimited(6, odd)):
        assert_same(message, data)


def test_varints_of_every_length_and_value_are_read_as_protobuf_does() -> None:
    chance = random.Random(5)
    for size in range(1, 13):
        for _ in range(40):
            varint = bytes(0x80 | chance.randrange(128) for _ in range(size - 1)) + bytes([chance.randrange(128)])
            assert_same("RenewRequest", delimited(1, SESSION) + b"\x10" + varint)
            assert_same("RenewRequest", delimited(1, SESSION) + b"\x18" + varint)
            assert_same("RenewRequest", delimited(1, SESSION) + varint)
            assert_same("RenewRequest", b"\x0a" + varint + SESSION)
            assert_same("OpenRequest", delimited(1, REQUEST) + delimited(6, b"\x10" + varint))


def test_the_last_of_a_repeated_scalar_wins() -> None:
    data = delimited(1, b"first") + b"\x10\x05\x18\x01" + delimited(1, SESSION) + b"\x10\x09\x18\x00"
    command = assert_same("RenewRequest", data)
    assert (command[4], command[6], command[11]) == (SESSION, 9, False)


def test_a_holder_that_comes_twice_is_merged() -> None:
    data = delimited(1, REQUEST) + delimited(2, delimited(1, b"ann") + delimited(3, b"crm"))
    data += delimited(3, delimited(1, b"platform")) + delimited(2, delimited(2, b"desk") + delimited(3, b"phone"))
    assert assert_same("OpenRequest", data)[2] == (b"ann", b"desk", b"phone", b"", b"", b"")


def test_an_open_that_comes_in_two_pieces_is_merged_with_its_products_in_order() -> None:
    first = delimited(1, REQUEST) + delimited(3, delimited(1, b"a")) + delimited(6, b"\x08\x05")
    second = delimited(3, delimited(1, b"b") + b"\x10\x01") + delimited(6, b"\x10\x07")
    command = assert_same("OpenWaitingRequest", delimited(1, first) + delimited(1, second))
    assert (command[3], command[7]) == ((("a", False), ("b", True)), 5 * 10**9 + 7)


def test_known_numbers_with_another_wire_type_are_unknown_fields() -> None:
    data = b"\x08\x05" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + delimited(1, SESSION)
    assert assert_same("RenewRequest", data)[4] == SESSION


# --- UTF-8 --------------------------------------------------------------------------------------------------


def is_python_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_utf8_is_what_python_says_for_every_short_sequence_and_its_neighbours() -> None:
    edges = bytes.fromhex("00417f808f909fa0bfc0c1c2dfe0e1ecedeeeff0f1f3f4f5ff")
    for first in range(256):
        for second in range(256):
            assert _wire.is_text(bytes((first, second))) == is_python_text(bytes((first, second)))
    for first in edges:
        for second in edges:
            for third in edges:
                for tail in (b"", b"\x80", b"\xbf", b"a", b"\xc0"):
                    data = bytes((first, second, third)) + tail
                    assert _wire.is_text(data) == is_python_text(data), data.hex()


@given(st.text(max_size=40), st.integers(0, 60), st.integers(0, 255))
def test_one_wrong_byte_anywhere_is_found(written: str, place: int, byte: int) -> None:
    data = bytearray(written.encode())
    data[place : place + 1] = bytes([byte])
    assert _wire.is_text(bytes(data)) == is_python_text(bytes(data))


def test_text_that_a_later_one_replaces_is_checked_too() -> None:
    bad = delimited(4, b"\xff") + delimited(4, b"good")
    assert assert_same("OpenRequest", delimited(1, REQUEST) + bad)[0] == "refused"


# --- bounds -------------------------------------------------------------------------------------------------


def refused_field(message: str, data: bytes) -> str:
    with pytest.raises(_wire.Refused) as caught:
        _wire.decode(message, data, secret=SECRET)
    return caught.value.message


def test_bounds_are_told_in_the_words_of_the_verbs() -> None:
    nonce = delimited(7, bytes(33))
    assert refused_field("OpenRequest", b"") == "The request_id must be 16 random bytes; these are 0."
    assert "has at most 32 bytes; this one has 33" in refused_field("OpenRequest", delimited(1, REQUEST) + nonce)
    identifiers = delimited(8, b"id") * 9
    assert "these are 9" in refused_field("OpenRequest", delimited(1, REQUEST) + identifiers)
    assert "A session_id has 32 bytes" in refused_field("CloseRequest", delimited(1, b"short"))
    assert refused_field("RenewRequest", b"\x0a") == "The message is not a valid broker.v1.RenewRequest."


def test_a_long_nonce_in_a_salt_of_the_largest_size_is_hashed_like_the_verbs() -> None:
    request = open_request(random.Random(1))
    request.request_id = REQUEST
    request.client_nonce = bytes(range(32))
    request.wait_limit.seconds = 10**9
    request.ClearField("ttl")
    del request.machine_identifiers[:]
    request.machine_identifiers.extend(["m" * 64] * 8)
    command = assert_same("OpenRequest", request.SerializeToString())
    assert command[8] != bytes(16)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
def test_a_keep_alive_message_takes_its_bound_of_renewals(count: int) -> None:
    request = sessions_pb2.KeepAliveRequest(renewals=[sessions_pb2.RenewRequest(session_id=SESSION)] * count, forget=[SESSION] * 3)
    assert_same("KeepAliveRequest", request.SerializeToString())


def test_the_first_faulty_renewal_is_named_with_its_index() -> None:
    good, bad = sessions_pb2.RenewRequest(session_id=SESSION), sessions_pb2.RenewRequest(session_id=b"x")
    request = sessions_pb2.KeepAliveRequest(renewals=[good, good, bad, bad], forget=[b"y"])
    ours = assert_same("KeepAliveRequest", request.SerializeToString())
    assert b"renewals[2].session_id" in ours[3]


def test_an_open_that_is_not_asked_for_is_checked_as_the_verbs_check_it() -> None:
    chance = random.Random(3)
    good_count = 0
    for _ in range(3000):
        request = open_request(chance)
        request.request_id = REQUEST
        request.ClearField("ttl")
        request.ClearField("wait_limit")
        request.ClearField("client_nonce")
        request.ClearField("machine_identifiers")
        ours, theirs = unasked_by_wire(request), unasked(request)
        assert ours == theirs, request
        good_count += isinstance(ours, str)
    assert 500 < good_count < 2900


def unasked_by_wire(request: sessions_pb2.OpenRequest) -> object:
    data = sessions_pb2.OpenWaitingRequest(open=request).SerializeToString()
    try:
        return _wire.decode("OpenWaitingRequest", data, identity=b"i" * 200, is_unasked=True)
    except _wire.Refused as refused:
        return ("refused", refused.code, refused.message, refused.details)


def unasked(request: sessions_pb2.OpenRequest) -> object:
    try:
        requests.check_unasked(request)
    except VerbError as error:
        return refusal(error)
    return next(wanted.product for wanted in request.products if not wanted.optional)
