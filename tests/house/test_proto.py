"""That broker/v1 is what proto/ says, and that proto/ is well-formed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.house.source_tree import ROOT

GENERATED_SUFFIXES = (".py", ".pyi")


def generated_files(folder: Path) -> dict[str, str]:
    """Name -> text of all that protoc writes."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in folder.iterdir()
        if path.suffix in GENERATED_SUFFIXES and path.name != "__init__.py"
    }


def test_checked_in_python_is_what_the_pinned_tools_generate(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "proto.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    fresh = generated_files(tmp_path / "broker" / "v1")
    checked_in = generated_files(ROOT / "broker" / "v1")
    assert fresh.keys() == checked_in.keys()
    differing = [name for name in fresh if fresh[name] != checked_in[name]]
    assert differing == [], "run `make proto`"


def test_buf_finds_nothing_to_say() -> None:
    buf = Path(sys.executable).parent / "buf"
    answer = subprocess.run(
        [str(buf), "lint", "proto"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
