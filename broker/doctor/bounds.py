"""Findings about the limits of the process: are there open files enough for the connections that the configuration allows.

A connection is an open file; the broker takes what its hard limit allows, and fewer connections if that is too little.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from broker.app.process_rules import DESCRIPTORS_BESIDE
from broker.doctor.finding import Finding, good, warning

UNLIMITED = "unlimited"


def limit_findings(root: Path, broker_pid: int | None, connections_max: int) -> Iterator[Finding]:
    """Of the running broker if there is one, else of whoever asks."""
    whose = "this shell" if broker_pid is None else f"the broker (pid {broker_pid})"
    limit = open_files_max(root / "proc" / ("self" if broker_pid is None else str(broker_pid)) / "limits")
    if limit is None:
        return
    wanted = connections_max + DESCRIPTORS_BESIDE
    if limit >= wanted:
        yield good("limits", whose, f"may have {limit} open files, {wanted} are needed")
        return
    yield warning(
        "limits", whose, f"may have {limit} open files: enough for {max(1, limit - DESCRIPTORS_BESIDE)} of {connections_max} connections",
        f"write LimitNOFILE={wanted} into the unit (`systemctl edit usher`), or `ulimit -n {wanted}`; or a smaller connections_max",
    )  # fmt: skip


def open_files_max(path: Path) -> int | None:
    """The hard limit in a `limits` of proc(5); None if it is not to be read, and a number larger than any for no limit."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("Max open files"):
            hard = line.split()[4]
            return 1 << 62 if hard == UNLIMITED else int(hard)
    return None
