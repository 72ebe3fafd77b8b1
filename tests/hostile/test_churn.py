"""Connections that come and go leave nothing behind; `make soak` does the same a million times."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.hostile.churn import GROWTH_MAX, churn
from tests.hostile.memory import in_use_size
from tests.support.certificates import TestAuthority

COUNT = 20_000
TLS_COUNT = 2_000


def test_twenty_thousand_connections_leave_no_memory_behind() -> None:
    found = churn(COUNT, seconds=None, seed=secrets.randbits(31), tls=None, round_s=4)
    assert found.connection_count >= COUNT
    assert found.left_size <= GROWTH_MAX, found


def test_connections_over_tls_leave_no_memory_behind(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    found = churn(TLS_COUNT, seconds=None, seed=secrets.randbits(31), tls=(authority.ca, authority.server()), round_s=4)
    assert found.connection_count >= TLS_COUNT
    assert found.left_size <= GROWTH_MAX, found


def test_memory_that_is_kept_would_be_seen() -> None:
    before = in_use_size()
    kept = [bytearray(1000) for _ in range(1000)]   # beyond what Python takes from pools of its own
    assert 1_000_000 <= in_use_size() - before <= 1_200_000
    kept.append(bytearray(10_000_000))              # a mapping of its own
    assert in_use_size() - before >= 11_000_000
    kept.clear()
    assert in_use_size() - before <= 100_000
