"""The table of checks: everything that `usher doctor` looks at, in the order in which it is shown.

    libusb, keys (permission, holder, autosuspend, place, hub) · clock · ports · licences · data directory and log · limits

A check that fails over what it reads is a finding itself and hides no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from broker.app.config import Config
from broker.doctor.bounds import limit_findings
from broker.doctor.clock import ClockFacts, clock_findings
from broker.doctor.finding import Finding, trouble
from broker.doctor.licences import licence_findings
from broker.doctor.ports import Wanted, port_findings
from broker.doctor.storage import storage_findings
from broker.doctor.usb import usb_findings
from hwkey.diagnosis import Account, Machine
from hwkey.diagnosis_libusb import LibusbFacts


@dataclass(frozen=True, slots=True)
class Patient:
    """All that is looked at. `account` is who runs the broker, or will; `broker_pid` of the one that runs now."""

    machine: Machine
    config: Config
    account: Account
    broker_pid: int | None
    clock: ClockFacts
    libusb: Callable[[], LibusbFacts | None]


def examine(patient: Patient) -> list[Finding]:
    """Every finding, in the order of the checks."""
    findings: list[Finding] = []
    for name, check in CHECKS:
        try:
            findings.extend(check(patient))
        except OSError as error:
            sentence = f"could not be looked at: {error.filename or ''} {error.strerror or error}".replace("  ", " ")
            findings.append(trouble(name, name, sentence, "run `usher doctor` as the broker's user or as root"))
    return findings


def _usb(patient: Patient) -> Iterator[Finding]:
    if patient.config.uses_usb:
        yield from usb_findings(patient.machine, patient.account, patient.broker_pid, patient.libusb())


def _clock(patient: Patient) -> Iterator[Finding]:
    return clock_findings(patient.clock, patient.config.journal_folder)


def _ports(patient: Patient) -> Iterator[Finding]:
    wanted = tuple(Wanted(name, one.address.host, one.address.port) for name, one in patient.config.listeners())
    return port_findings(patient.machine, wanted, patient.broker_pid)


def _licences(patient: Patient) -> Iterator[Finding]:
    return licence_findings(patient.config, int(patient.clock.now_unix_s))


def _storage(patient: Patient) -> Iterator[Finding]:
    mountinfo = (patient.machine.root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    return storage_findings(patient.config, patient.account, mountinfo, patient.clock.now_unix_s)


def _limits(patient: Patient) -> Iterator[Finding]:
    return limit_findings(patient.machine.root, patient.broker_pid, patient.config.clients.connections_max)


CHECKS: tuple[tuple[str, Callable[[Patient], Iterator[Finding]]], ...] = (
    ("usb", _usb),
    ("clock", _clock),
    ("ports", _ports),
    ("licences", _licences),
    ("data", _storage),
    ("limits", _limits),
)
