"""That what pyproject.toml declares, constraints.txt pins, the changelog tells and the package says are one thing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import broker
from tests.house.source_tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared() -> list[Requirement]:
    """Every requirement of the package and its extras."""
    extras = [text for group in PROJECT["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in [*PROJECT["dependencies"], *extras]]


def pinned() -> dict[str, str]:
    """Name -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_declared_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    version = pinned().get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in constraints.txt: make constraints"
    assert version in requirement.specifier, f"constraints.txt pins {requirement.name} outside {requirement.specifier}"


def test_version_is_the_same_everywhere() -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None, "CHANGELOG.md has no version"
    assert newest.group(1) == PROJECT["version"] == broker.__version__


def test_pure_build_has_no_compiled_part(tmp_path: Path) -> None:
    program = "import setuptools, runpy; runpy.run_path('setup.py')"
    environment = {"USHER_PURE": "1", "PATH": "/usr/bin:/bin"}
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['setup.py', '-q', 'bdist_wheel', '-d', {str(tmp_path)!r}, "
         f"'-b', {str(tmp_path / 'build')!r}]; {program}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert [path.name for path in tmp_path.glob("*.whl")] == [f"usher_broker-{broker.__version__}-py3-none-any.whl"]
