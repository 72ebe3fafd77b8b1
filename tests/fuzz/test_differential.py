"""The codec and protobuf under a fresh seed: a short look in each run; `make soak` looks for long."""

from __future__ import annotations

import secrets

import pytest

from tests.fuzz import differential

ROUND_COUNT = 6


def test_codec_and_protobuf_agree_under_a_fresh_seed() -> None:
    seed = secrets.randbits(32)
    count, found = differential.compare(seed, round_count_max=ROUND_COUNT)
    assert found == [], f"seed {seed}"
    assert count > 10_000


def test_a_difference_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differential, "decoded_by_wire", lambda message, data, identity: ("refused",))
    _, found = differential.compare(1, round_count_max=1)
    assert len(found) > 100
