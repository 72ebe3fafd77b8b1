"""The report of a load run: a table for the terminal, and build/load/index.html that leads to locust's own pages.

It says what was counted apart (grants, denials, failures), what the broker itself counted, and how near locust was to its own
ceiling, so that no number is taken for more than it is. Text out, nothing else.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import fill

from rich.table import Table

from loadtests.locust_process import Run

BUSY_SHARE = 0.85
"""From this part of a core on, locust itself is what is slow."""

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.3em .8em;text-align:right;border-bottom:1px solid #ccc}"
    "td:first-child,th:first-child{text-align:left}.bad{color:#b00020;font-weight:bold}"
)

COLUMNS = ("scenario", "calls", "calls/s", "granted", "denied", "failures", "p50 ms", "p99 ms", "locust CPU")


@dataclass(frozen=True, slots=True)
class Finding:
    """A run and what was wrong with it; nothing is the good case."""

    run: Run
    objections: tuple[str, ...]
    notes: tuple[str, ...] = ()


def cells(run: Run) -> tuple[str, ...]:
    """One line of the table."""
    return (
        run.scenario.name,
        f"{run.request_count}",
        f"{run.requests_per_s:.0f}",
        f"{run.count_of('granted')}",
        f"{run.count_of('denied')}",
        f"{run.failure_count}",
        f"{run.percentile_ms(0.5):.0f}",
        f"{run.percentile_ms(0.99):.0f}",
        f"{run.cpu_share:.0%}",
    )


def terminal_table(findings: Sequence[Finding]) -> Table:
    """For people at a terminal."""
    table = Table(box=None, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "scenario" else "right")
    for finding in findings:
        table.add_row(*cells(finding.run), style="red" if finding.objections else "")
    return table


def ceiling_sentences(ceiling: Run | None, findings: Sequence[Finding]) -> str:
    """What locust itself can do here, and which of the runs were near it."""
    if ceiling is None:
        return "Locust's own ceiling was not measured in this run (--no-ceiling)."
    busy = [finding.run.scenario.name for finding in findings if finding.run.cpu_share >= BUSY_SHARE]
    sentence = (
        f"Locust's own ceiling, measured in this run: {ceiling.requests_per_s:.0f} calls/s from one process"
        f" ({ceiling.scenario.user_count} users without pauses, a server that does nothing, {ceiling.cpu_share:.0%} of a"
        " core). Rates near it, and times measured while locust's core is full, are about locust and not about the"
        " broker."
    )
    if busy:
        sentence += f" That goes for: {', '.join(busy)}."
    return sentence


def write_index(folder: Path, findings: Sequence[Finding], ceiling: Run | None) -> Path:
    """Writes index.html into the folder; its path."""
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    body = "\n".join(scenario_row(finding) for finding in findings)
    remarks = "\n".join(f"<li>{escape(text)}</li>" for text in remarks_of(findings))
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Usher under load</title><style>{STYLE}</style></head><body>
<h1>Usher under load</h1>
<p>Denials are answers, not failures, and are counted apart. Each name leads to locust's page about it.</p>
<table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table>
<p>{escape(ceiling_sentences(ceiling, findings))}</p>
<ul>
{remarks}
</ul>
<p>Machine: {escape(platform.platform())}, Python {platform.python_version()}. Broker and locust share it.</p>
</body></html>
"""
    path = folder / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


def scenario_row(finding: Finding) -> str:
    """One line of the page."""
    name, *values = cells(finding.run)
    marked = ' class="bad"' if finding.objections else ""
    data = "".join(f"<td>{escape(value)}</td>" for value in values)
    return f'<tr{marked}><td><a href="{escape(name)}.html">{escape(name)}</a></td>{data}</tr>'


def remarks_of(findings: Sequence[Finding]) -> list[str]:
    """What the scenarios asked and what was noticed, a sentence or two each."""
    remarks = []
    for finding in findings:
        name = finding.run.scenario.name
        remarks.append(f"{name}: {finding.run.scenario.question}")
        remarks += [f"{name}: {note}" for note in finding.notes]
        remarks += [f"{name}: WRONG: {objection}" for objection in finding.objections]
    return remarks


def wrapped(text: str) -> str:
    """Prose for a terminal."""
    return fill(text, 100, initial_indent="  ", subsequent_indent="  ")
