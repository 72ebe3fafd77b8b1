"""The same words, the same numbers: the compiled ledger, the Python model and the protocol."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from broker.model import words
from broker.v1 import admin_pb2, types_pb2

WORDS = Path(__file__).resolve().parents[2] / "ext" / "ledger" / "words.pxd"

COMPILED = [
    ("END", words.EndReason),
    ("DENIAL", words.DenialReason),
    ("LEASE", words.LeaseState),
    ("SHARING", words.Sharing),
    ("STATUS", words.Status),
    ("INVALID", words.InvalidField),
    ("BOUND", words.Bound),
    ("EVENT", words.EventKind),
    ("STATE", words.StateKind),
]
SPOKEN = [
    ("END_REASON", words.EndReason, types_pb2.EndReason),
    ("DENIAL_REASON", words.DenialReason, types_pb2.DenialReason),
    ("LEASE_STATE", words.LeaseState, types_pb2.LeaseState),
    ("EVENT_KIND", words.EventKind, admin_pb2.EventKind),
]


def compiled_numbers(prefix: str) -> dict[str, int]:
    """Name without its prefix -> number, of one enum of words.pxd."""
    found = re.findall(rf"^    {prefix}_(\w+) = (\d+)", WORDS.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found if not name.endswith("REASON_COUNT") and name != "REASON_COUNT"}


@pytest.mark.parametrize(("prefix", "enum"), COMPILED)
def test_each_compiled_word_has_the_number_of_the_model(prefix: str, enum: type[IntEnum]) -> None:
    numbers = compiled_numbers(prefix)
    assert numbers, f"words.pxd has no {prefix}_ words"
    assert {name: enum[name].value for name in numbers} == numbers


@pytest.mark.parametrize(("prefix", "enum", "spoken"), SPOKEN)
def test_each_word_of_the_model_has_the_number_of_the_protocol(prefix: str, enum: type[IntEnum], spoken: object) -> None:
    named = dict(spoken.items())  # type: ignore[attr-defined]
    unspecified = named.pop(f"{prefix}_UNSPECIFIED")
    assert unspecified == enum.NONE  # type: ignore[attr-defined]
    spoken_words = [word for word in enum if word.name != "NONE" and (enum is not words.EventKind or word not in words.JOURNAL_KINDS)]
    assert {f"{prefix}_{word.name}": word.value for word in spoken_words} == named
