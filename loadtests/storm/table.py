"""Storms as tables for a person: what was measured, what was wrong, what the broker says. Values in, rich tables out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from loadtests.storm.check import Comparison
from loadtests.storm.engine import Progress
from loadtests.storm.plan import CYCLES, StormPlan
from loadtests.storm.result import Latency, StormResult


def time_text(us: float) -> str:
    """Microseconds in the unit that reads best."""
    if us < 1_000:
        return f"{us:.0f} µs"
    return f"{us / 1_000:.1f} ms" if us < 1_000_000 else f"{us / 1_000_000:.2f} s"


def progress_text(progress: Progress, second_answers: int) -> str:
    """One line a second."""
    phase, answered, faults, connections, flying, backlog = progress
    text = f"{phase:8} {answered:>12,} answered {second_answers:>10,}/s {connections:>7,} connections {flying:>7,} in flight"
    return text + (f" {backlog:,} late" if backlog else "") + (f" {faults:,} ERRORS" if faults else "")


def latency_row(name: str, latency: Latency) -> tuple[str, ...]:
    """One row of latencies."""
    percentiles = (latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us)
    return (name, f"{latency.count:,}", *map(time_text, percentiles))


def latency_table(result: StormResult) -> Table:
    """Latencies by call."""
    table = Table("call", "measured", "p50", "p90", "p99", "p99.9", "max")
    for name, latency in result.latencies.items():
        table.add_row(*latency_row(name, latency))
    if len(result.latencies) > 1:
        table.add_row(*latency_row("all", result.latency))
    return table


def plan_text(plan: StormPlan) -> str:
    """What was done, in a few words."""
    loop = f" at {plan.rate_per_s:,.0f}/s ({plan.arrivals})" if plan.rate_per_s else ""
    return f"{plan.cycle}{loop}: {CYCLES[plan.cycle]}"


def headline(result: StormResult) -> str:
    """The rate and what it cost."""
    if result.cycle == "idle":
        return f"{result.connections_at_end:,} connections held"
    cost_us = result.client_cpu_s / result.requests * 1e6 if result.requests else 0.0
    text = f"{result.requests_per_s:,.0f}/s over {result.elapsed_s:.1f} s, {cost_us:.1f} µs of our CPU each"
    if result.watched_cpu_s is not None and result.requests:
        text += f", {result.watched_cpu_s / result.requests * 1e6:.1f} µs of the server's"
    return text


def counts_text(result: StormResult) -> str:
    """The sums that are not zero."""
    counts = {
        "sent": result.sent,
        "answered": result.answered,
        "retried, unprocessed": result.retried_unprocessed,
        "cut": result.cut,
        "unanswered": result.unanswered_at_end,
        **{name: count for name, count in result.answers.items() if name != "failed"},
        "largest backlog": result.backlog_peak,
        "never sent": result.unsent_at_end,
        "GOAWAYs": result.goaways,
        **result.reasons,
    }
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def fault_lines(result: StormResult) -> Iterable[str]:
    """What was wrong, a line each."""
    yield from (f"ERROR {line}" for line in result.error_examples)
    if result.streams_limit is not None:
        yield f"the server allows {result.streams_limit} calls at once on a connection: fewer than were wanted"


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Both sides' sums; a difference stands out."""
    table = Table("sum", "by the storm", "by the broker", "")
    for one in comparisons:
        if one.storm == one.broker == 0:
            continue
        verdict = "" if one.agrees else "DIFFERENT"
        table.add_row(one.what, f"{one.storm:,}", f"{one.broker:,}", verdict, style="" if one.agrees else "bold red")
    return table
