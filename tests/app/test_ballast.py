"""The ballast: room that is taken while there is plenty, and given back once."""

import logging
import os
import shutil
from pathlib import Path

import pytest

from broker.app.ballast import Ballast

SIZE = 1 << 20


def free_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def test_ballast_takes_real_room_of_its_size(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, SIZE)
    assert ballast.size == 0
    ballast.make()
    assert ballast.size == SIZE
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= SIZE


def test_ballast_is_given_back_once_and_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ballast = Ballast(tmp_path, SIZE)
    ballast.make()
    assert ballast.release()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert not ballast.release()
    assert len(caplog.records) == 1
    assert ballast.size == 0


def test_ballast_is_made_anew_when_its_size_is_another(tmp_path: Path) -> None:
    Ballast(tmp_path, SIZE).make()
    Ballast(tmp_path, 2 * SIZE).make()
    assert Ballast(tmp_path, SIZE).size == 2 * SIZE


def test_ballast_that_is_no_longer_wanted_is_given_back_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Ballast(tmp_path, SIZE).make()
    Ballast(tmp_path, 0).make()
    assert not (tmp_path / "ballast").exists()
    assert not caplog.records


def test_disk_that_is_nearly_full_gets_no_ballast_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_size(monkeypatch, 4 * SIZE)
    Ballast(tmp_path, SIZE).make()
    assert not (tmp_path / "ballast").exists()
    assert "nearly full" in caplog.text
    free_size(monkeypatch, 4 * SIZE + 1)
    Ballast(tmp_path, SIZE).make()
    assert (tmp_path / "ballast").exists()


def test_ballast_that_cannot_be_allocated_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    Ballast(tmp_path, SIZE).make()
    assert not (tmp_path / "ballast").exists()
    assert "No space left on device" in caplog.records[0].facts["cause"]  # type: ignore[attr-defined]
