"""The demo: it ends well on a broker that does what is told, and badly on one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

from broker import client
from loadtests import demo
from loadtests.own_broker import BrokerView, OwnBroker, own_broker
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


def _nothing(*_: object, **__: object) -> None:
    """In place of what a planted fault leaves out."""


def _patient_broker(*words: Any, **points: Any) -> AbstractContextManager[OwnBroker]:
    """A broker that waits for a minute before it ends a silent session, whatever the demo asked for."""
    return own_broker(*words, **(points | {"ttl_s": 60.0}))


def _idle_app(*_: object) -> subprocess.Popen[str]:
    """An app that says that it has a session, and has none."""
    script = "import time; print('1.1', flush=True); time.sleep(600)"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "the key stays in": (lambda patch: patch.setattr(BrokerView, "unplug", _nothing), "capacity falls to 10"),
    "the key does not come back": (lambda patch: patch.setattr(BrokerView, "plug", _nothing), "capacity is 15 again"),
    "the app takes no seat": (lambda patch: patch.setattr(demo, "start_app", _idle_app), "its seats are taken"),
    "the dead live on": (lambda patch: patch.setattr(demo, "own_broker", _patient_broker), "its platform seat is back"),
    "nobody logs out": (lambda patch: patch.setattr(client.Session, "close", _nothing), "the deficit shrinks to 4"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_demo_ends_with_status_1_at_the_step_that_goes_wrong(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant, step = PLANTED[name]
    # Seats that do not come back are waited for; here they never will.
    monkeypatch.setattr(BrokerView, "await_product", partialmethod(BrokerView.await_product, within_s=2.0))
    monkeypatch.setattr(demo, "SLACK_S", 1.0)
    with monkeypatch.context() as patch:
        plant(patch)
        assert demo.main() == 1
    told = capsys.readouterr().out
    assert "Not as said." in told
    assert step in told.partition("Not as said.")[2]
