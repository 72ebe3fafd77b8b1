"""The two times of the ledger model: raw, which never goes back, and the ledger's, which leaves out stalls.

Nanoseconds. Sessions, linger and memory count in ledger time, so that a stopped process or a paused machine ends
nobody; sources count in raw time, because a stopped process proves nothing (semantics rules 20 and 30).
"""

from __future__ import annotations


class Clock:
    """`stall_ns`: a step longer than this is a stall; 0 means none is."""

    def __init__(self, start_ns: int, stall_ns: int) -> None:
        self.raw_ns = start_ns
        self.stall_ns = stall_ns
        self.stalled_ns = 0
        self.stall_total = 0
        self.between_runs_ns = 0
        """How much further raw time is than ledger time because of what lay between two runs; it may be less after a reboot."""

    def update(self, now_ns: int) -> None:
        step_ns = max(0, now_ns - self.raw_ns)
        if self.stall_ns > 0 and step_ns > self.stall_ns:
            self.stalled_ns += step_ns
            self.stall_total += 1
        self.raw_ns += step_ns

    @property
    def skipped_ns(self) -> int:
        return self.stalled_ns + self.between_runs_ns

    @property
    def ledger_ns(self) -> int:
        return self.raw_ns - self.skipped_ns

    def restart(self, now_ns: int, ledger_ns: int) -> None:
        """A new run: ledger time goes on from here."""
        self.raw_ns = now_ns
        self.stalled_ns = self.stall_total = 0
        self.between_runs_ns = now_ns - ledger_ns
