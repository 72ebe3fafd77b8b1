"""The writer of constraints.txt: every version that is installed in this environment, but our own package's and pip's.

    python tools/constraints.py

Run it after a range in pyproject.toml has changed and the suites pass; pyproject.toml says what may be used, this file
what was tested. The Debian packages' versions are Debian's own.
"""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

from packaging.version import Version

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"

HEAD = (
    "# Every version that Usher is built and tested with. Made by `make constraints`; the ranges stand in pyproject.toml."
)

NOT_PINNED = {"pip", "usher-broker"}


def pins() -> list[str]:
    """`name==version` lines, in an order that does not depend on the machine."""
    found = {f"{item.name}=={Version(item.version)}" for item in distributions() if item.name not in NOT_PINNED}
    return sorted(found, key=str.lower)


if __name__ == "__main__":
    TARGET.write_text("\n".join([HEAD, *pins(), ""]), encoding="utf-8")
