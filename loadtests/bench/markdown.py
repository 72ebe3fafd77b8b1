"""The tables of docs/BENCHMARKS.md out of build/bench.json.

    python -m loadtests.bench.markdown [FILE]      prints them; what the document says about them is written by hand
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from loadtests.own_broker import ROOT


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *("| " + " | ".join(row) + " |" for row in rows), ""]


def server_rows(results: Sequence[dict[str, Any]]) -> Iterable[list[str]]:
    """Servers, one line each, medians with quartiles."""
    for row in results:
        low, high = row["requests_per_s_quartiles"]
        cheap, dear = row["cpu_us_quartiles"]
        yield [
            f"`{row['name']}`",
            f"{row['requests_per_s']:,} ({low:,.0f} to {high:,.0f})",
            f"{row['cpu_us']:.2f} ({cheap:.2f} to {dear:.2f})",
            f"{row['p50_us']:,.0f}" if "p50_us" in row else "",
            f"{row['p99_us']:,.0f}" if "p99_us" in row else "",
            f"{row['server_share']:.0%}",
            f"{row['client_share']:.0%}" if "client_share" in row else "",
        ]


def bar_rows(bars: Sequence[dict[str, Any]]) -> Iterable[list[str]]:
    """Bars, one line each."""
    for bar in bars:
        low, high = bar["quartiles"]
        form = ".2f" if bar["median"] >= 0.1 else ".2g"
        measured = f"{bar['median']:{form}} ({low:{form}} to {high:{form}})"
        yield [bar["what"], bar["bar"], measured, "met" if bar["is_met"] else "**missed**"]


def document(contents: dict[str, Any]) -> str:
    """Everything that the file says of servers."""
    machine, pace = contents["machine"], contents["pace"]
    lines = [
        f"{machine['processor']}, {machine['cpu_count']} processors, Linux {machine['kernel']}, Python {machine['python']};"
        f" {machine['places']}; {pace['rounds']} rounds of {pace['seconds']:g} s, {pace['connections']} connections of"
        f" {pace['streams']} calls in flight.",
        "",
        *table(("server", "requests/s", "CPU µs a request", "p50 µs", "p99 µs", "server busy", "client busy"), server_rows(contents["results"])),
        *table(("what", "bar", "measured", ""), bar_rows(contents["bars"])),
        *(f"* {sentence}" for sentence in contents["sentences"]),
    ]
    return "\n".join(lines)


def main() -> None:
    """Reads the file and prints."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "bench.json"
    print(document(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
