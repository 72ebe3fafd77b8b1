"""The auditor: it adds up like a clerk, and no seat beyond capacity escapes it."""

from __future__ import annotations

from broker.v1 import admin_pb2
from loadtests.audit import FINDINGS_MAX, Audit


def event(kind: admin_pb2.EventKind.ValueType, *, seats: int = 0, pool: int = 0) -> admin_pb2.Event:
    """One event of the product platform."""
    return admin_pb2.Event(kind=kind, pool=pool, seats=seats, product="platform", session="1.1")


def feed(audit: Audit, *events: admin_pb2.Event, missed_count: int = 0) -> None:
    """One answer of the stream."""
    audit.feed(admin_pb2.WatchEventsResponse(events=events, missed_count=missed_count))


CAPACITY = admin_pb2.EVENT_KIND_CAPACITY_CHANGED
STARTED = admin_pb2.EVENT_KIND_LEASE_STARTED
FREED = admin_pb2.EVENT_KIND_CHARGE_FREED


def test_seats_within_capacity_are_no_finding() -> None:
    audit = Audit()
    feed(audit, event(CAPACITY, seats=2), event(STARTED, seats=1), event(STARTED, seats=1), event(FREED, seats=1))
    feed(audit, event(STARTED, seats=1))
    assert audit.findings == []
    assert audit.in_use == 2


def test_a_seat_beyond_capacity_is_found_and_named() -> None:
    audit = Audit()
    feed(audit, event(CAPACITY, seats=1), event(STARTED, seats=1), event(STARTED, seats=1))
    assert len(audit.findings) == 1
    assert "then 2 in use of 1" in audit.findings[0]


def test_a_seat_given_under_a_deficit_is_found() -> None:
    audit = Audit()
    feed(audit, event(CAPACITY, seats=3), *[event(STARTED, seats=1)] * 3, event(CAPACITY, seats=1))
    assert audit.findings == []
    assert audit.deficit_peak == 2
    feed(audit, event(FREED, seats=1), event(STARTED, seats=1))
    assert len(audit.findings) == 1


def test_a_shared_lease_takes_no_seat() -> None:
    audit = Audit()
    feed(audit, event(CAPACITY, seats=1), event(STARTED, seats=1), event(STARTED, seats=0))
    assert audit.findings == []


def test_pools_are_counted_apart() -> None:
    audit = Audit()
    feed(audit, event(CAPACITY, seats=5, pool=0), event(CAPACITY, seats=1, pool=1))
    feed(audit, event(STARTED, seats=1, pool=1), event(STARTED, seats=1, pool=1))
    assert len(audit.findings) == 1


def test_missed_events_are_not_forgotten() -> None:
    audit = Audit()
    feed(audit, missed_count=3)
    feed(audit)
    assert audit.missed_count == 3


def test_findings_are_bounded() -> None:
    audit = Audit()
    feed(audit, *[event(STARTED, seats=1)] * (FINDINGS_MAX + 5))
    assert len(audit.findings) == FINDINGS_MAX


def test_pools_of_a_running_broker_are_taken_over() -> None:
    audit = Audit()
    pool = admin_pb2.Pool(pool=4, capacity=2, in_use=2)
    audit.start_from([admin_pb2.Product(product="platform", pools=[pool])])
    feed(audit, event(STARTED, seats=1, pool=4))
    assert len(audit.findings) == 1
