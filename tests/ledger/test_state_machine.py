"""A Hypothesis state machine over ledger and model: fewer operations than the million, but shrunk to the least that differ.

Every step is compared at once: answer, events, all numbers, all sessions. Two products, three people, one instance and short
times, so that most rules meet within fifty steps. `USHER_STATE_MACHINE_SEED` replays a run; the seed is printed.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.model.answers import Answer
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, LicenceModel, Sharing, Status
from tests.ledger.lockstep import Lockstep
from tests.ledger.operations import NOBODY, Operation, PoolDeclaration, Settings

SECOND_NS = 1_000_000_000
START_NS = 10 * SECOND_NS
RING_SIZE = 1 << 20

steps_ns = st.sampled_from(
    [0, 0, 1, 200_000_000, 500_000_000, SECOND_NS, 2 * SECOND_NS - 1, 2 * SECOND_NS, 5 * SECOND_NS]
)
durations_ns = st.sampled_from([0, 500_000_000, SECOND_NS, 3 * SECOND_NS])
terms = st.builds(
    PoolTerms,
    model=st.sampled_from(LicenceModel),
    sharing=st.sampled_from(Sharing),
    share_max=st.integers(0, 2),
    weight=st.integers(1, 2),
    linger_ns=durations_ns,
    min_hold_ns=durations_ns,
)
pools = st.lists(
    st.builds(PoolDeclaration, st.sampled_from(["platform", "crm"]), terms, st.booleans()),
    min_size=1,
    max_size=4,
)
items = st.lists(
    st.tuples(st.sampled_from(["platform", "crm", "ghost"]), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda item: item[0],
)
people = st.sampled_from([b"ann", b"bob", b"eve"])
request_ids = st.integers(0, 40).map(lambda number: number.to_bytes(16, "big"))
places = st.integers(0, 5)
"""Which of the latest sessions, counted from the newest."""


class LedgerMachine(RuleBasedStateMachine):
    """Ledger and model side by side."""

    @initialize(
        declared=pools,
        ttl_ns=st.sampled_from([SECOND_NS, 2 * SECOND_NS]),
        stall_ns=st.sampled_from([0, SECOND_NS, 3 * SECOND_NS]),
        window_ns=durations_ns,
        bound=st.sampled_from([2, 4, 100]),
    )
    def begin(
        self, declared: list[PoolDeclaration], ttl_ns: int, stall_ns: int, window_ns: int, bound: int
    ) -> None:
        arguments = {
            "start_ns": START_NS,
            "ttl_ns": ttl_ns,
            "renew_grace_ns": 500_000_000,
            "request_window_ns": window_ns,
            "denial_window_ns": window_ns // 2,
            "stall_ns": stall_ns,
            "sessions_max": bound,
            "leases_max": 2 * bound,
            "charges_max": 2 * bound,
            "requests_max": 3 * bound,
            "denials_max": bound,
            "event_ring_size": RING_SIZE,
        }
        self.pair = Lockstep(Settings(arguments, tuple(declared)))
        self.pool_count = len({(pool.product, pool.terms, pool.is_emulated) for pool in declared})
        self.now_ns = START_NS
        self.opened: list[int] = []
        self.number = 0

    def step(self, name: str, arguments: dict[str, Any], opened_by: int = NOBODY) -> None:
        operation = Operation(self.number, name, self.now_ns, arguments, opened_by)
        self.number += 1
        result = self.pair.step(operation)
        if isinstance(result, Answer) and result.status is Status.GRANTED and not result.is_replayed:
            self.opened.append(operation.number)

    def session(self, place: int) -> int:
        return self.opened[-1 - place % len(self.opened)] if self.opened else NOBODY

    @rule(step_ns=steps_ns)
    def time_passes(self, step_ns: int) -> None:
        self.now_ns += step_ns
        self.step("advance", {})

    @rule(
        request_id=request_ids,
        user=people,
        host=st.sampled_from([b"desk", b"hall"]),
        instance_id=st.sampled_from([b"", b"one"]),
        products=items,
        priority=st.sampled_from([0, 7]),
        step_ns=steps_ns,
    )
    def somebody_opens(self, step_ns: int, **arguments: Any) -> None:
        self.now_ns += step_ns
        self.step("open", arguments)

    @rule(place=places, change_version=st.integers(0, 3))
    def somebody_renews(self, place: int, change_version: int) -> None:
        self.step("renew", {"change_version": change_version}, self.session(place))

    @rule(place=places, request_id=request_ids, products=items)
    def somebody_acquires(self, place: int, request_id: bytes, products: list[tuple[str, bool]]) -> None:
        self.step("acquire", {"request_id": request_id, "products": products}, self.session(place))

    @rule(place=places, request_id=request_ids, product=st.sampled_from(["platform", "crm", "ghost"]))
    def somebody_releases(self, place: int, request_id: bytes, product: str) -> None:
        self.step("release", {"request_id": request_id, "product": product}, self.session(place))

    @rule(place=places, request_id=request_ids)
    def somebody_closes(self, place: int, request_id: bytes) -> None:
        self.step("close", {"request_id": request_id}, self.session(place))

    @precondition(lambda self: self.opened)
    @rule(place=places)
    def an_admin_revokes(self, place: int) -> None:
        self.step("revoke", {"reason": EndReason.REVOKED}, self.session(place))

    @rule(
        source=st.integers(0, 3),
        pool=st.integers(0, 3),
        seats=st.integers(0, 4),
        proof_ns=steps_ns,
        grace_ns=steps_ns,
    )
    def a_key_is_proven(self, source: int, pool: int, seats: int, proof_ns: int, grace_ns: int) -> None:
        proven_until_ns = self.now_ns + proof_ns
        arguments = {
            "source": source,
            "pool": pool % self.pool_count,
            "seats": seats,
            "proven_until_ns": proven_until_ns,
            "grace_until_ns": proven_until_ns + grace_ns,
        }
        self.step("prove_source", arguments)

    @rule(
        source=st.integers(0, 3),
        grace_ns=steps_ns,
        cause=st.sampled_from([EndReason.KEY_LOST, EndReason.LICENCE_ENDED]),
    )
    def a_key_is_lost(self, source: int, grace_ns: int, cause: EndReason) -> None:
        arguments = {"source": source, "grace_until_ns": self.now_ns + grace_ns, "cause": cause}
        self.step("lose_source", arguments)

    @rule(pool=st.integers(0, 3), is_starting=st.booleans())
    def a_pool_starts(self, pool: int, is_starting: bool) -> None:
        self.step("set_starting", {"pool": pool % self.pool_count, "is_starting": is_starting})

    @rule(is_admitting=st.booleans())
    def the_broker_drains(self, is_admitting: bool) -> None:
        self.step("set_admitting", {"is_admitting": is_admitting})

    @invariant()
    def both_say_the_same(self) -> None:
        if hasattr(self, "pair"):
            self.pair.drain(RING_SIZE)
            self.pair.read(self.now_ns)


def test_ledger_and_model_agree_step_by_step() -> None:
    number = int(os.environ.get("USHER_STATE_MACHINE_SEED") or secrets.randbits(32))
    print(f"state machine seed: USHER_STATE_MACHINE_SEED={number}")
    run_state_machine_as_test(
        seed(number)(LedgerMachine),
        settings=settings(
            max_examples=200,
            stateful_step_count=60,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
