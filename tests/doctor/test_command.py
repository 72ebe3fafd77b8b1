"""`usher doctor` as a command: licences, exit status, JSON, and that one failing check hides no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.app.config import BrokerSection, Config
from broker.doctor import Patient, Severity, examine
from broker.doctor.clock import ClockFacts
from broker.exit_codes import ExitCode
from hwkey.diagnosis import Account, Machine
from tests.support.usher_command import usher

THUMBPRINT = "-" + "A" * 42


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory that trusts a vendor."""
    assert usher("vendor", "init", tmp_path / "acme", "--name", "Acme", "--product", "crm").code == 0
    folder = tmp_path / "data"
    (folder / "licences").mkdir(parents=True)
    (folder / "trust.jwks.json").write_bytes((tmp_path / "acme" / "vendor.jwks.json").read_bytes())
    return folder


def issue(data_dir: Path, name: str, *more: object) -> None:
    out = data_dir / "licences" / name
    words = ("--product", "crm", "--seats", 5, "--thumbprint", THUMBPRINT, "--out", out)
    assert usher("vendor", "issue", data_dir.parent / "acme", *words, *more).code == 0


def doctor(data_dir: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status, and the findings about licences by file."""
    config = data_dir.parent / "usher.toml"
    config.write_text("".join(f'[{name}]\naddress = "127.0.0.1:0"\n' for name in ("clients", "admin", "http")))
    done = usher("doctor", "--config", config, "--data-dir", data_dir, "--emulate", "--json")
    assert not done.err, done.err
    return done.code, {one["subject"].split(" ")[0]: one for one in done.json["findings"] if one["check"] == "licence"}


def test_licences_that_are_good_end_soon_or_do_not_count_are_told_apart(data_dir: Path) -> None:
    issue(data_dir, "perpetual.jwt")
    issue(data_dir, "year.jwt", "--days", 365)
    issue(data_dir, "soon.jwt", "--days", 20)
    issue(data_dir, "later.jwt", "--from", "2999-01-01")
    code, findings = doctor(data_dir)
    assert {name: one["severity"] for name, one in findings.items()} == {
        "perpetual.jwt": "good", "year.jwt": "good", "soon.jwt": "warning", "later.jwt": "note",
    }  # fmt: skip
    assert "Acme" in findings["soon.jwt"]["remedy"]
    assert code == ExitCode.DONE, "warnings are no trouble"


def test_expired_and_broken_licences_are_trouble_and_end_with_its_status(data_dir: Path) -> None:
    issue(data_dir, "old.jwt", "--from", "2001-01-01", "--days", 1)
    (data_dir / "licences" / "broken.jwt").write_text("nonsense")
    code, findings = doctor(data_dir)
    assert {name: one["severity"] for name, one in findings.items()} == {"old.jwt": "trouble", "broken.jwt": "trouble"}
    assert code == ExitCode.TROUBLE


def test_trust_file_that_is_broken_is_trouble(data_dir: Path) -> None:
    (data_dir / "trust.jwks.json").write_text("{")
    code, findings = doctor(data_dir)
    assert (code, findings) == (ExitCode.TROUBLE, {})


def test_text_shows_the_worst_first_with_its_remedy_and_counts_all(data_dir: Path) -> None:
    issue(data_dir, "soon.jwt", "--days", 20)
    (data_dir / "licences" / "broken.jwt").write_text("nonsense")
    lines = usher("doctor", "--data-dir", data_dir).out.splitlines()
    assert lines[0].startswith("trouble: ")
    assert any(line.startswith("warning: soon.jwt") for line in lines)
    assert not any(line.startswith("good: ") for line in lines)
    assert " findings: " in lines[-1]
    assert any(line.startswith("good: ") for line in usher("doctor", "--data-dir", data_dir, "--all").out.splitlines())


def test_user_that_does_not_exist_is_a_wrong_command_line(data_dir: Path) -> None:
    assert usher("doctor", "--data-dir", data_dir, "--user", "no-such-user").code == ExitCode.USAGE


def test_check_that_cannot_look_is_a_finding_and_hides_no_other(tmp_path: Path) -> None:
    patient = Patient(
        machine=Machine(tmp_path),  # no proc at all, so that the table of mounts is missing
        config=Config(broker=BrokerSection(data_dir=tmp_path)),
        account=Account("me", os.geteuid(), frozenset()),
        broker_pid=None,
        clock=ClockFacts(1_800_000_000.0, is_synchronised=True),
        libusb=lambda: None,
    )
    findings = examine(patient)
    [blind] = [one for one in findings if one.check == "data"]
    assert blind.severity is Severity.TROUBLE
    assert "proc/self/mountinfo" in blind.sentence
    assert {"libusb", "keys", "clock", "port", "trust"} <= {one.check for one in findings}
