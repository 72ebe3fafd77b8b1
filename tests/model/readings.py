"""What can be read of the ledger model, as dictionaries with the names of the views of `broker._ledger`.

Pure: reading passes no time here; a caller who compares with a view that carries a time calls `pass_time` first.
"""

from __future__ import annotations

from typing import Any

from tests.model.ledger_model import LedgerModel

View = dict[str, Any]


def products_of(model: LedgerModel) -> list[View]:
    """ProductView of each, in index order."""
    return [
        {
            "product": product.name,
            "lease_total": product.lease_total,
            "denial_totals": tuple(product.denial_totals),
            "end_totals": tuple(product.end_totals),
        }
        for product in model.capacity.products
    ]


def pools_of(model: LedgerModel) -> list[View]:
    """PoolView of each, in number order."""
    return [
        {
            "pool": pool.number,
            "product": pool.product.name,
            "terms": pool.terms,
            "is_emulated": pool.is_emulated,
            "is_starting": pool.is_starting,
            "capacity": model.capacity.seats(pool),
            "grace_seats": model.capacity.grace_seats(pool),
            "in_use": pool.in_use,
            "in_use_peak": pool.in_use_peak,
            "deficit": model.capacity.deficit(pool),
            "charge_count": len(pool.charges),
            "lingering_count": sum(charge.free_at_ns is not None for charge in pool.charges),
            "key_grace_count": len(pool.key_grace),
            "lease_count": sum(len(charge.leases) for charge in pool.charges),
            "charge_total": pool.charge_total,
        }
        for pool in model.capacity.pools
    ]


def counters_of(model: LedgerModel) -> View:
    """Counters, without those of memory and texts."""
    return {
        "session_count": len(model.live),
        "lease_count": sum(len(session.leases) for session in model.live.values()),
        "charge_count": model.charges.count(),
        "request_count": model.memory.request_count,
        "denial_count": model.memory.denial_count,
        **model.totals,
        "ended_totals": tuple(model.ended_totals),
        "event_total": model.log.total,
        "event_size": model.log.size,
        "event_dropped_total": model.log.dropped_total,
        "stall_total": model.clock.stall_total,
        "stalled_ns": model.clock.stalled_ns,
    }


def sessions_of(model: LedgerModel) -> list[View]:
    """SessionView of each that is not past its deadline, by fence."""
    now_ns = model.clock.ledger_ns
    return [
        {
            "fence": session.fence,
            **session.holder._asdict(),
            "age_ns": now_ns - session.opened_ns,
            "ends_in_ns": session.deadline_ns - now_ns,
            "leases": tuple(model.charges.view(lease) for lease in session.leases),
        }
        for _, session in sorted(model.live.items())
        if session.deadline_ns > now_ns
    ]
