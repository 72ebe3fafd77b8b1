"""What the doctor's tests share: a machine in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor.machine_folder import MachineFolder


@pytest.fixture
def machine(tmp_path: Path) -> MachineFolder:
    """An empty machine with one host controller."""
    return MachineFolder(tmp_path / "root")
