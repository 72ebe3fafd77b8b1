"""A disk under one process that fails or loses power when told to: builds faulty_disk.c, and says the surroundings that lay it over a broker."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("faulty_disk.c")
BUILT = SOURCE.parents[2] / "build" / "crash"
COMPILER = shutil.which("cc")


@dataclass(frozen=True, slots=True)
class DiskFault:
    """The n-th call on files of the log: `call` is "sync" or "write"; `action` is an errno, "drop", "power" or "lie" (see faulty_disk.c)."""

    call: str
    action: str

    def surroundings(self, after: int, seed: int) -> dict[str, str]:
        """Environment of a process that shall meet it. CalledProcessError: it cannot be built."""
        words = {"CALL": self.call, "AFTER": str(after), "ACTION": self.action, "SEED": str(seed), "DIRECTORY": "/data/journal/"}
        return {"LD_PRELOAD": str(built())} | {f"FAULT_{name}": word for name, word in words.items()}


def built() -> Path:
    """The library, made anew when its source has changed."""
    library = BUILT / "faulty_disk.so"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        BUILT.mkdir(parents=True, exist_ok=True)
        fresh = library.with_suffix(".new")
        subprocess.run([COMPILER or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", fresh, SOURCE, "-ldl", "-lpthread"], check=True)
        fresh.rename(library)
    return library
