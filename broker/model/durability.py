"""How a broker's sessions outlive it, as people are told: what was recovered, how large the log is, what stands in the way.

A reading of one instant, made by `broker/app`; shown by GetBroker, `usher status` and the metrics. Sizes are bytes, positions those of the log.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.model.journal import JournalCounters


@dataclass(frozen=True, slots=True)
class RecoveryFacts:
    """What the start found of the runs before it."""

    sessions: int = 0
    event_size: int = 0
    """Of snapshot and log together, as they were replayed."""
    duration_ns: int = 0
    was_clean: bool = True
    """The run before ended in order, or there was none."""
    notes: tuple[str, ...] = ()
    """Sentences for an admin: a torn tail that was cut, an older snapshot that was taken."""


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """The newest snapshot. `unix_ns` 0: there is none."""

    unix_ns: int = 0
    size: int = 0
    behind_size: int = 0
    """Log that a start would have to replay behind it."""
    written_count: int = 0
    """In this run."""
    failed_count: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class DurabilityView:
    """Everything about durability that an admin is shown. With mode "none" only the mode says anything."""

    mode: str
    """strict, relaxed or none."""
    is_writable: bool = True
    """False: the log could be read and not written, so that nobody new gets in (renew-only)."""
    is_learning: bool = False
    """relaxed, after an unclean end: no new charges until everybody who holds a seat has had time to say so."""
    is_failed: bool = False
    """The disk refused the log; the process is about to end."""
    recovery: RecoveryFacts = RecoveryFacts()
    snapshot: SnapshotView = SnapshotView()
    snapshot_after_size: int = 0
    log_size_max: int = 0
    ballast_size: int = 0
    """Of the ballast file as it stands; 0: there is none, or it was given back."""
    counters: JournalCounters | None = None

    @property
    def status(self) -> str:
        """One word: fine, learning, renew_only or failed."""
        if self.is_failed:
            return "failed"
        if not self.is_writable:
            return "renew_only"
        return "learning" if self.is_learning else "fine"
