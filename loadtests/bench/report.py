"""The report of the bench: tables for the terminal, and the file build/bench.json.

    {"machine": {...}, "pace": {...},
     "results": [{"name", "requests_per_s", "cpu_us", "p50_us", "p99_us", ...}],   servers, one row each; quartiles beside
     "bars": [{"what", "median", "quartiles", "bar", "is_met"}],
     "sentences": [...],
     "ledger": [{"name", "requests_per_s", "cpu_us", ...}]}                        the ledger alone, in process

Bars inform: met or missed is said plainly and moves no exit status. A part that did not run leaves out its rows; a file of an
earlier run is overwritten whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.bench.figures import Bar
from loadtests.bench.parts import Finding

COLUMNS = ("server", "requests/s", "quartiles", "CPU µs", "quartiles", "p50 µs", "p99 µs", "server busy", "client busy")


def result_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Servers, one line each."""
    table = Table(box=None, header_style="bold")
    for index, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['requests_per_s']:,}",
            "{:,.0f} to {:,.0f}".format(*row["requests_per_s_quartiles"]),
            f"{row['cpu_us']:.2f}",
            "{:.2f} to {:.2f}".format(*row["cpu_us_quartiles"]),
            number(row.get("p50_us")),
            number(row.get("p99_us")),
            f"{row['server_share']:.0%}",
            f"{row['client_share']:.0%}" if "client_share" in row else "",
        )
    return table


def number(value: float | None) -> str:
    """A latency, or nothing."""
    return "" if value is None else f"{value:,.0f}"


def bar_table(bars: Sequence[Bar]) -> Table:
    """What should be, what is, and whether that is enough."""
    table = Table(box=None, header_style="bold")
    for name, justify in (("bar", "left"), ("should be", "right"), ("is (quartiles)", "right"), ("", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for bar in bars:
        verdict = "[green]met[/]" if bar.is_met else "[bold red]missed[/]"
        table.add_row(escape(bar.what), bar.limit_text, bar.measured.text(), verdict)
    return table


def show_finding(console: Console, finding: Finding) -> None:
    """One part, whole."""
    console.print(f"\n[bold]{escape(finding.title)}[/]")
    if finding.rows:
        console.print(result_table(finding.rows))
    if finding.bars:
        console.print(bar_table(finding.bars))
    for text in (*finding.sentences, *finding.lines):
        console.print(escape(text), highlight=False, soft_wrap=True)


def as_json(
    machine: dict[str, Any], pace: dict[str, Any], findings: Sequence[Finding], ledger: Sequence[dict[str, Any]]
) -> dict[str, object]:
    """Everything, for the file."""
    return {
        "machine": machine,
        "pace": pace,
        "results": [row for finding in findings for row in finding.rows],
        "bars": [bar.as_json() for finding in findings for bar in finding.bars],
        "sentences": [sentence for finding in findings for sentence in finding.sentences],
        "ledger": list(ledger),
    }


def write_json(path: Path, contents: dict[str, object]) -> None:
    """Writes the file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
