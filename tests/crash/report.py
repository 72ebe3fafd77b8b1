"""What came of crash rounds, summed over campaigns: ends by their place, what clients were answered, the longest start, and every fault."""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass, field

from tests.crash.auditor import NS, Fault
from tests.crash.rounds import Campaign

KINDS = ("lost", "duplicate", "over_capacity", "revived", "stranded", "wrong")
FAULTS_SHOWN = 20
LOG_LINES = 120


@dataclass(slots=True)
class Report:
    """Sums; `logs` are the last lines of brokers that broke a promise."""

    seed: int
    ends: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    longest_start_ns: int = 0
    logs: list[str] = field(default_factory=list)

    def add(self, campaign: Campaign) -> None:
        """One campaign that is over."""
        self.ends += campaign.ends
        for name, count in campaign.auditor.figures.items():
            self.figures[name] = max(self.figures[name], count) if name.startswith("peak_") else self.figures[name] + count
        self.faults += campaign.auditor.faults
        self.longest_start_ns = max(self.longest_start_ns, campaign.longest_start_ns)
        if campaign.auditor.faults:
            self.logs += (campaign.directory / "broker.log").read_text(errors="replace").splitlines()[-LOG_LINES:]

    def line(self) -> str:
        """One line of sums."""
        counted = Counter(fault.kind for fault in self.faults)
        judged = ", ".join(f"{kind} {counted[kind]}" for kind in KINDS)
        answered = sum(self.figures[name] for name in ("opened", "renewed", "acquired", "released", "closed"))
        return f"{self.ends.total()} rounds, {answered} acknowledged, {self.figures['retried']} retried: {judged}"

    def text(self) -> str:
        """All of it; the last line is `line`."""
        ends = "  ".join(f"{name} {count}" for name, count in sorted(self.ends.items()))
        figures = "  ".join(f"{name} {count}" for name, count in sorted(self.figures.items()))
        shown = [str(fault) for fault in self.faults[:FAULTS_SHOWN]]
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor_s = (used.ru_utime + used.ru_stime) / max(1, self.ends.total())
        start = f"longest start: {self.longest_start_ns / NS:.2f} s; processor of all brokers: {processor_s:.2f} s a round"
        head = [f"seed {self.seed}", f"ends: {ends}", f"figures: {figures}", start]
        return "\n".join([*head, *self.logs, *shown, self.line()])
