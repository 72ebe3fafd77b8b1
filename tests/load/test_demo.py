"""The demo: it ends well on a broker that does what is told, and badly on one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import demo
from tests.house.source_tree import ROOT


def test_demo_ends_with_status_0_and_tells_every_step(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.demo"]
    # As the README tells people to set it for their own broker: the demo's broker must not care.
    environment = os.environ | {"USHER_DATA_DIR": str(tmp_path)}
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for told in (
        "5 + 10 = 15 seats",
        'no_free_seats: "All 15 seats',
        "deficit 5",
        "nobody new is let in",
        "healed: capacity 15",
        "pavel logs in anew",
    ):
        assert told in answer.stdout


def test_demo_ends_with_status_1_when_a_key_gives_fewer_seats_than_told(capsys: pytest.CaptureFixture[str]) -> None:
    poorer = [*demo.FLEET[:1], {"name": "bravo", "seats": {"platform": 9}}, *demo.FLEET[2:]]
    assert demo.main(fleet=poorer) == 1
    told = capsys.readouterr().out
    assert "Not as said." in told
    assert "'platform': 14" in told


def test_demo_ends_with_status_1_when_the_broker_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(fleet=[{"name": "alpha", "seats": {"platform": 0}}]) == 1
    assert "the broker did not start" in capsys.readouterr().out
