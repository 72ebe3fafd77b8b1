"""JSON bodies: whatever the bytes are, there is a message or one clear error."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from broker.v1 import sessions_pb2
from broker.verbs.errors import VerbError
from broker.web.door import json_response, parse_json
from tests.verbs.world import open_request

NAMES = st.sampled_from(["requestId", "holder", "user", "products", "product", "optional", "ttl", "clientNonce", "x"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("60s")
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


def message_or_error(body: bytes) -> None:
    error: VerbError | None = None
    message = sessions_pb2.OpenRequest()
    try:
        message = parse_json(sessions_pb2.OpenRequest, body)
    except VerbError as raised:
        error = raised
    if error is None:
        assert sessions_pb2.OpenRequest.FromString(message.SerializeToString()) == message
    else:
        assert error.metadata == {"field": "message"}
        assert len(error.message) < 400


@given(st.binary(max_size=200))
def test_random_bytes_give_a_message_or_a_clear_error(body: bytes) -> None:
    message_or_error(body)


@given(JSON)
def test_random_json_gives_a_message_or_a_clear_error(value: object) -> None:
    message_or_error(json.dumps(value).encode())


@given(st.text(max_size=20), st.binary(max_size=32))
def test_a_request_goes_through_json_unchanged(user: str, nonce: bytes) -> None:
    request = open_request("platform", user=user, client_nonce=nonce)
    assert parse_json(sessions_pb2.OpenRequest, json_format.MessageToJson(request).encode()) == request


def test_an_answer_holds_all_its_fields_in_utf_8() -> None:
    body = json.loads(bytes(json_response(sessions_pb2.RenewResponse(change_version=2**40)).body))
    assert body == {"changeVersion": str(2**40), "changed": []}


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(VerbError):
        parse_json(sessions_pb2.OpenRequest, b'{"instanceId": "\\udc00"}')
