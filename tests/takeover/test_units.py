"""The systemd units: systemd itself finds nothing wrong with them, and they say what the broker's defaults say."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from broker.app.config import Config
from broker.exit_codes import ExitCode
from tests.house.source_tree import ROOT

UNITS = ROOT / "deploy" / "systemd"
EXPOSURE_MAX = 20
"""Tenths: 2.0, where systemd calls 10.0 unsafe."""
NEVER_AGAIN = {ExitCode.USAGE, ExitCode.CONFIG, ExitCode.DATA_DIRECTORY, ExitCode.COMPILED_PARTS_MISSING}


def values(unit: str, entry: str) -> list[str]:
    """All values of an entry, in the order of the file."""
    return re.findall(rf"^{entry}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def test_socket_listens_where_the_broker_does_by_default() -> None:
    config = Config()
    assert values("usher.socket", "ListenStream") == [str(one.address) for _, one in config.listeners()]
    assert values("usher.socket", "ReusePort") == ["no"]


def test_what_a_person_must_put_right_is_not_tried_again() -> None:
    (statuses,) = values("usher.service", "RestartPreventExitStatus")
    assert {int(one) for one in statuses.split()} == set(NEVER_AGAIN)


def test_limit_of_open_files_leaves_room_for_all_connections() -> None:
    (files,) = values("usher.service", "LimitNOFILE")
    assert int(files) > Config().clients.connections_max


NEEDS_SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that is there: systemd looks."""
    for name in ("usher.service", "usher.socket"):
        text = (UNITS / name).read_text()
        (tmp_path / name).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    return tmp_path


@NEEDS_SYSTEMD
def test_systemd_finds_nothing_wrong(units: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", units / "usher.service", units / "usher.socket"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@NEEDS_SYSTEMD
def test_sandbox_is_as_narrow_as_it_was(units: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", units / "usher.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
