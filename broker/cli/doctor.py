"""`usher doctor`: looks at this machine as a broker would use it, and says what is wrong and what to do about it.

Works beside a running broker and without one; changes nothing. Root sees who holds a key or a port; others see their own processes only.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from pathlib import Path
from typing import Any

import click

from broker.app.config import Config
from broker.app.config_file import checked, load_config
from broker.app.data_directory import read_run_file
from broker.cli.options import FILE, data_dir_option, json_option
from broker.cli.output import print_json, say
from broker.doctor import Finding, Patient, Severity, examine
from broker.doctor.clock import ClockFacts, read_synchronised
from broker.exit_codes import ExitCode
from hwkey.diagnosis import Account, Machine
from hwkey.diagnosis_libusb import libusb_facts

WORDS = {Severity.GOOD: "good", Severity.NOTICE: "note", Severity.WARNING: "warning", Severity.TROUBLE: "trouble"}
STYLES = {Severity.GOOD: "green", Severity.NOTICE: "", Severity.WARNING: "yellow", Severity.TROUBLE: "bold red"}


@click.command()
@click.option("--config", "config_path", type=FILE, envvar="USHER_CONFIG", show_envvar=True, help="The broker's configuration.")
@data_dir_option
@click.option("--emulate", "is_emulated", is_flag=True, help="As for `usher serve --emulate`.")
@click.option("--user", "user_name", help="Who runs the broker; by default the owner of its data directory.")
@click.option("--all", "is_all", is_flag=True, help="Show what is good, too.")
@json_option
def doctor(
    config_path: Path | None, data_dir: Path | None, is_emulated: bool, user_name: str | None, is_all: bool, is_json: bool
) -> int:
    """Look for what keeps a broker from working: keys, clock, ports, licences, disk, limits.

    Ends with 13 if there is trouble; warnings alone end with 0.
    """
    config = load_config(config_path) if config_path else Config()
    config = checked(config.with_choices(data_dir=data_dir, is_emulated=is_emulated))
    account = _account(user_name, config.data_dir)
    findings = examine(_patient(config, account))
    if is_json:
        print_json({"user": account.name, "worst": _worst(findings), "findings": [_json(one) for one in findings]})
    else:
        _show(findings, is_all)
    return ExitCode.TROUBLE if any(one.severity is Severity.TROUBLE for one in findings) else ExitCode.DONE


def _patient(config: Config, account: Account) -> Patient:
    return Patient(
        machine=Machine(),
        config=config,
        account=account,
        broker_pid=_broker_pid(config.data_dir),
        clock=ClockFacts(time.time(), read_synchronised()),
        libusb=libusb_facts,
    )


def _broker_pid(data_dir: Path) -> int | None:
    """The broker that says it serves, if its process is there: a kill leaves the file behind."""
    pid = read_run_file(data_dir).get("pid")
    return pid if isinstance(pid, int) and Path(f"/proc/{pid}").exists() else None


def _account(user_name: str | None, data_dir: Path) -> Account:
    try:
        found = pwd.getpwnam(user_name) if user_name else pwd.getpwuid(_owner(data_dir))
    except KeyError as error:
        if user_name:
            raise click.BadParameter(f"there is no user {user_name}", param_hint="--user") from error
        return Account(f"uid {_owner(data_dir)}", _owner(data_dir), frozenset())
    groups = {found.pw_gid} | {one.gr_gid for one in grp.getgrall() if found.pw_name in one.gr_mem}
    return Account(found.pw_name, found.pw_uid, frozenset(groups))


def _owner(data_dir: Path) -> int:
    try:
        return data_dir.stat().st_uid
    except OSError:
        return os.geteuid()


def _show(findings: list[Finding], is_all: bool) -> None:
    shown = [one for one in findings if is_all or one.severity > Severity.GOOD]
    for one in sorted(shown, key=lambda finding: -finding.severity):
        say(f"{WORDS[one.severity]}: {one.subject}: {one.sentence}", STYLES[one.severity])
        if one.remedy:
            say(f"    {one.remedy}")
    counts = {word: sum(one.severity is severity for one in findings) for severity, word in WORDS.items()}
    say(f"{len(findings)} findings: " + ", ".join(f"{count} {word}" for word, count in reversed(counts.items())))


def _worst(findings: list[Finding]) -> str:
    return WORDS[max((one.severity for one in findings), default=Severity.GOOD)]


def _json(finding: Finding) -> dict[str, Any]:
    return {
        "severity": WORDS[finding.severity],
        "check": finding.check,
        "subject": finding.subject,
        "sentence": finding.sentence,
        "remedy": finding.remedy,
    }
