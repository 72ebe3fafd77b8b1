"""What can be set of a journal: sizes in bytes, places, and what only tests set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Of one broker's log. The configuration gives them; the defaults are what it gives if nothing is written down."""

    segment_size: int = 16 * MIB
    group_size_max: int = MIB // 4
    snapshot_after_size: int = 64 * MIB
    """Events behind the newest snapshot that make the next one due; also at least as many as that snapshot's own size."""
    log_size_max: int = 1024 * MIB
    """Of all segments. History that reads too slowly loses events at it; snapshots come sooner near it."""
    state_file: Path | None = None
    """A second place for the state, outside of what a backup restores."""
    accepts_restored: bool = False
    """Start although the state says that more was committed than is here."""
    salt_seed: int | None = None
    """For simulations: random otherwise."""
    crash_point: str | None = None
    """For tests: `after_sync:3`."""
    sync_delay_ns: int = 0
    """For tests and benchmarks: added to each sync."""
