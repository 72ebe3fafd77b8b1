"""Client apps that crash: real processes over generated stubs, killed without a word."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.harness import Door

SCRIPT = Path(__file__).with_name("foreign_client.py")


@contextmanager
def foreign_client(
    door: Door, directory: Path, *, instance_id: str = "", products: str = "platform"
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running client app and what it was answered; killed at the end if it still runs."""
    command = [
        sys.executable,
        "-P",
        str(SCRIPT),
        str(door.api.directory),
        door.address,
        instance_id,
        products,
    ]
    process = subprocess.Popen(
        command + _pem_files(door, directory),
        cwd=directory,
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            yield process, json.loads(process.stdout.readline() or "{}")
        finally:
            process.kill()
            process.wait()


def _pem_files(door: Door, directory: Path) -> list[str]:
    names = []
    for name in ("ca", "certificate", "private_key"):
        pem = getattr(door.security, name)
        if pem is not None:
            path = directory / f"{name}.pem"
            path.write_bytes(pem)
            names.append(str(path))
    return names


def test_a_client_killed_and_started_again_takes_no_second_seat(door: Door, tmp_path: Path) -> None:
    with foreign_client(door, tmp_path, instance_id="container-7", products="platform,crm") as (
        process,
        first,
    ):
        assert first["outcome"] == "grant"
        process.kill()
        process.wait()
    assert door.in_use("platform", "crm") == (1, 1)  # nobody told the broker
    with foreign_client(door, tmp_path, instance_id="container-7", products="platform,crm") as (_, second):
        assert second["outcome"] == "grant"
        assert second["public_id"] != first["public_id"]
        assert door.in_use("platform", "crm") == (1, 1)
        (session,) = door.broker.sessions()
        assert session.public_id == second["public_id"]


def test_a_client_killed_without_an_instance_keeps_its_seat_until_its_ttl(door: Door, tmp_path: Path) -> None:
    with foreign_client(door, tmp_path) as (process, first):
        process.kill()
        process.wait()
    with foreign_client(door, tmp_path) as (_, second):
        assert first["outcome"] == second["outcome"] == "grant"
        assert door.in_use("platform") == (2,)


@pytest.mark.parametrize("attempt_count", [3])
def test_a_crash_loop_takes_one_seat(door: Door, tmp_path: Path, attempt_count: int) -> None:
    for _ in range(attempt_count):
        with foreign_client(door, tmp_path, instance_id="crash-loop", products="telephony") as (
            process,
            answer,
        ):
            assert answer["outcome"] == "grant"
            process.kill()
            process.wait()
    assert door.in_use("telephony") == (1,)
    assert door.session_count() == 1
