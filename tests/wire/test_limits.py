"""The codec's bounds, and what of them the verbs say a second time."""

from __future__ import annotations

from broker.limits import LIMITS
from broker.verbs import bounds


def test_the_codec_and_the_verbs_have_the_same_bounds() -> None:
    assert LIMITS["CLIENT_NONCE_SIZE_MAX"] == bounds.CLIENT_NONCE_SIZE_MAX
    assert LIMITS["MACHINE_IDENTIFIER_COUNT_MAX"] == bounds.MACHINE_IDENTIFIER_COUNT_MAX
    assert LIMITS["MACHINE_IDENTIFIER_SIZE_MAX"] == bounds.MACHINE_IDENTIFIER_SIZE_MAX
    assert LIMITS["RENEWALS_PER_MESSAGE_MAX"] == bounds.RENEWALS_PER_MESSAGE_MAX
    assert LIMITS["STREAM_ANSWER_SIZE_MAX"] == bounds.STREAM_ANSWER_SIZE_MAX


def test_an_answer_and_its_frame_fit_into_one_message_of_a_stream() -> None:
    spare = bounds.MESSAGE_SIZE_MAX - LIMITS["STREAM_ANSWER_SIZE_MAX"]
    assert spare >= LIMITS["STREAM_ITEM_FRAME_SIZE"]
    assert LIMITS["WIRE_ANSWER_SIZE_MAX"] < bounds.MESSAGE_SIZE_MAX
