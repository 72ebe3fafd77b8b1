"""What a stretch of the log changes in the history: rows to add, rows to end, sums to add up. Plain lists and dictionaries of numbers.

The fold makes it, the store writes it in one transaction. Each tuple is in the order of its table's columns (broker/history/schema.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Row = tuple[Any, ...]


@dataclass(slots=True)
class Changes:
    """Everything between two positions of the log."""

    events: list[Row] = field(default_factory=list)
    sessions: dict[int, list[Any]] = field(default_factory=dict)
    """Opened in this stretch, by fence; ended in place."""
    session_ends: list[Row] = field(default_factory=list)
    """Of sessions opened before: (fence, ended_ns, reason)."""
    leases: dict[tuple[int, int], list[Any]] = field(default_factory=dict)
    """Started in this stretch and the newest of their session and product."""
    leases_before: list[list[Any]] = field(default_factory=list)
    """Started and ended in it, and followed by another of the same session and product."""
    lease_ends: dict[tuple[int, int], Row] = field(default_factory=dict)
    """Of leases started before, by session and product: (ended_ns, reason). The first end counts: others are of leases that were not kept."""
    usage: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    """(minute, pool): the peak and seats x nanoseconds of this stretch."""
    counts: dict[tuple[int, int, int, int], int] = field(default_factory=dict)
    """(minute, kind, product, reason): how many."""
    minutes: dict[int, list[int]] = field(default_factory=dict)
    """minute: first position, events, events kept singly."""
    capacity: list[Row] = field(default_factory=list)
    runs: list[Row] = field(default_factory=list)
    run_ends: list[Row] = field(default_factory=list)
    """(generation, ended_ns, is_clean)"""
    products: list[Row] = field(default_factory=list)
    pools: list[Row] = field(default_factory=list)
    """The whole row of each pool that changed."""
    gaps: list[Row] = field(default_factory=list)
    event_count: int = 0
