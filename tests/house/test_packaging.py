"""That what pyproject.toml declares, constraints.txt pins, the changelog tells and the package says are one thing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import broker
from tests.house.source_tree import ROOT

SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "broker", "hwkey", "ext")

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


def wheel_of(tmp_path: Path, environment: dict[str, str]) -> Path:
    """The wheel that a build with nothing but this environment makes, from a copy of the sources."""
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    arguments = ["setup.py", "-q", "bdist_wheel", "-d", str(tmp_path)]
    program = f"import sys, runpy; sys.argv = {arguments!r}; runpy.run_path('setup.py')"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    (wheel,) = tmp_path.glob("*.whl")
    return wheel


def compiled_parts_in(wheel: Path) -> list[str]:
    """Names of shared objects in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.endswith(".so")]


def test_pure_wheel_is_for_every_platform_and_has_no_compiled_part(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, {"USHER_PURE": "1", "PATH": "/usr/bin:/bin"})
    assert wheel.name == f"usher_broker-{broker.__version__}-py3-none-any.whl"
    assert compiled_parts_in(wheel) == []


def test_build_without_a_compiler_leaves_out_the_compiled_parts_and_succeeds(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, {"CC": "/nonexistent/cc", "PATH": "/nonexistent"})
    assert compiled_parts_in(wheel) == []


def test_wheel_has_stubs_and_says_that_it_is_typed(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, {"USHER_PURE": "1", "PATH": "/usr/bin:/bin"})
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"broker/py.typed", "hwkey/py.typed", "broker/_ledger.pyi", "broker/v1/sessions_pb2.pyi"} <= names
    assert not [name for name in names if name.startswith(("tests/", "loadtests/", "tools/"))]
