"""The auditors see what both sides get wrong alike, where comparing them shows nothing."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from broker.model.words import Status
from tests.ledger.lockstep import Failure, run
from tests.ledger.sides import ModelSide
from tests.model.capacity import Capacity
from tests.model.charges import Charges
from tests.model.ledger_model import LedgerModel
from tests.model.memory import Memory
from tests.model.records import Remembered, Session

OPERATION_COUNT_MAX = 100_000
RUN_COUNT = 8


def accusations() -> str:
    """What becomes of some runs of the model against itself: each must be accused, and more than one auditor may speak first."""
    told = []
    for _ in range(RUN_COUNT):
        seed = secrets.randbits(32)
        print(f"seed {seed}")
        with pytest.raises(Failure) as caught:
            run(seed, OPERATION_COUNT_MAX, ModelSide)
        told.append(str(caught.value))
    return "\n".join(told)


def test_seats_given_beyond_capacity_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Charges, "_has_free_seats", lambda _self, _pool: True)
    assert "a new charge makes" in accusations()


def test_a_request_id_that_opens_two_sessions_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    remember = Memory.remember

    def forget_grants(self: Memory, entry: Remembered) -> None:
        if entry.status is not Status.GRANTED:
            remember(self, entry)

    monkeypatch.setattr(Memory, "remember", forget_grants)
    assert "one request_id opened two living sessions" in accusations()


def test_a_session_that_is_lost_before_its_ttl_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_half_a_ttl(self: LedgerModel, session: Session) -> None:
        session.deadline_ns = self.clock.ledger_ns + session.ttl_ns // 2

    monkeypatch.setattr(LedgerModel, "_start_ttl", start_half_a_ttl)
    assert "a session was lost before its ttl was over" in accusations()


def test_a_deficit_that_is_told_wrongly_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Capacity, "deficit", lambda _self, _pool: 0)
    assert "a deficit of 0 with" in accusations()


def test_a_charge_that_is_freed_under_its_leases_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    end, free = Charges.end, Charges.free

    def free_once(self: Charges, charge: Any, reason: Any) -> None:
        # The leases that are left end too, often before the auditor has read the log: the model must bear its own error.
        if charge in charge.pool.charges:
            free(self, charge, reason)

    def end_and_free(self: Charges, lease: Any, reason: Any) -> None:
        is_shared = len(lease.charge.leases) > 1
        end(self, lease, reason)
        if is_shared:
            self.free(lease.charge, reason)

    monkeypatch.setattr(Charges, "free", free_once)
    monkeypatch.setattr(Charges, "end", end_and_free)
    assert "a charge freed under a lease" in accusations()
