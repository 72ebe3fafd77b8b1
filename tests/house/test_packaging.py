"""That what pyproject.toml declares, constraints.txt pins, the changelog tells and the package says are one thing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import broker
from broker.exit_codes import ExitCode
from tests.house.source_tree import ROOT

SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "broker", "hwkey", "ext")

CLIENT_LIBRARIES = ("grpc", "google", "typing_extensions.py")
"""What a client install brings: grpcio, protobuf, googleapis-common-protos, and what grpcio needs."""

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


def wheel_of(tmp_path: Path, environment: dict[str, str], *, with_compiled: bool = False) -> Path:
    """The wheel that a build with nothing but this environment makes, from a copy of the sources. `with_compiled`: what this checkout has compiled is
    taken as it is."""
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    arguments = ["setup.py", "-q", "bdist_wheel", "-d", str(tmp_path)]
    if with_compiled:
        take_compiled(source)
    program = f"import sys, runpy; sys.argv = {arguments!r}; runpy.run_path('setup.py')"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    (wheel,) = tmp_path.glob("*.whl")
    return wheel


def take_compiled(source: Path) -> None:
    """Puts this checkout's compiled parts where a build looks whether it has anything to do, so that it has not."""
    built = source / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / "broker"
    built.mkdir(parents=True)
    for one in (ROOT / "broker").glob("*.so"):
        shutil.copy(one, built)
    now_s = time.time()
    for one in source.glob("ext/*/_*.c"):
        os.utime(one, (now_s, now_s))
    for one in built.iterdir():
        os.utime(one, (now_s + 1, now_s + 1))


def installed(wheel: Path, directory: Path, *, sees: Sequence[Path] = ()) -> Path:
    """A new environment with the wheel in it, and besides only what `sees` names; its folder of programs.

    The libraries that the wheel declares are those of this environment: what they are is another test's business, and to download them takes
    a network. Only their folder is seen, not the links in it, so that the package itself is the wheel's and not this checkout's.
    """
    venv.create(directory, with_pip=False)
    program = str(directory / "bin" / "python")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", program, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True, timeout=120
    )
    (packages,) = (directory / "lib").glob("python3*/site-packages")
    (packages / "libraries.pth").write_text("".join(f"{path}\n" for path in sees))
    return directory / "bin"


def libraries() -> Path:
    """Where the libraries of this environment lie."""
    return Path(sysconfig.get_paths()["purelib"])


def outside(directory: Path) -> dict[str, str]:
    """The environment of a user who has no checkout."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(directory), "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this machine's kind, with the compiled parts that this checkout has: to compile them once more would take minutes."""
    return wheel_of(tmp_path_factory.mktemp("wheel"), {"PATH": os.environ["PATH"]}, with_compiled=True)


def test_wheel_serves_in_an_empty_environment_far_from_the_checkout(built_wheel: Path, tmp_path: Path) -> None:
    programs = installed(built_wheel, tmp_path / "venv", sees=[libraries()])
    free = [word for name in ("clients", "admin", "http") for word in (f"--{name}", "127.0.0.1:0")]
    command = [programs / "usher", "serve", "--emulate", "--json", "--data-dir", tmp_path / "data", *free]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with subprocess.Popen(command, cwd=elsewhere, env=outside(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            assert json.loads(line)["version"] == broker.__version__
            seats = subprocess.run(
                [programs / "usher", "seats", "--json", "--data-dir", tmp_path / "data"],
                cwd=elsewhere, env=outside(tmp_path), capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert "platform" in seats.stdout, seats.stderr
            where = subprocess.run(
                [programs / "python", "-c", "import broker, broker._ledger as it; print(broker.__file__, it.__file__)"],
                cwd=elsewhere, env=outside(tmp_path), capture_output=True, text=True, timeout=60, check=True,
            ).stdout.split()  # fmt: skip
            assert all(one.startswith(str(tmp_path / "venv")) for one in where)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_client_install_opens_sessions_without_anything_compiled_or_of_the_server(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, {"USHER_PURE": "1", "PATH": "/usr/bin:/bin"})
    only = tmp_path / "libraries"
    only.mkdir()
    for name in CLIENT_LIBRARIES:
        (only / name).symlink_to(libraries() / name)
    programs = installed(wheel, tmp_path / "venv", sees=[only])

    def answer(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, env=outside(tmp_path), capture_output=True, text=True, timeout=60, check=False)

    imported = answer(programs / "python", "-c", "from broker import client; print(client.Client.__name__)")
    assert imported.stdout == "Client\n", imported.stderr
    refused = answer(programs / "usher", "serve")
    assert refused.returncode == ExitCode.COMPILED_PARTS_MISSING
    assert "pip install 'usher-broker[broker]'" in refused.stderr


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
