"""Clock, ports, disk and limits as the doctor sees them."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.app.config import BrokerSection, Config, JournalSection
from broker.doctor import Finding, Severity
from broker.doctor.bounds import limit_findings
from broker.doctor.clock import ClockFacts, clock_findings, read_synchronised
from broker.doctor.ports import Wanted, listening, port_findings
from broker.doctor.storage import mount_of, storage_findings
from hwkey.diagnosis import Account, Machine
from tests.doctor.machine_folder import MachineFolder

NOW_UNIX_S = 1_800_000_000.0
MEBIBYTE = 1 << 20
ON_DISK = "25 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"
CLIENTS = Wanted("clients", "127.0.0.1", 7600)


# --- clock ------------------------------------------------------------------------------------------------------


def test_clock_that_nothing_keeps_in_step_is_a_warning(tmp_path: Path) -> None:
    [finding] = clock_findings(ClockFacts(NOW_UNIX_S, is_synchronised=False), tmp_path)
    assert finding.severity is Severity.WARNING


def test_clock_that_was_set_back_behind_the_log_is_trouble(tmp_path: Path) -> None:
    written = tmp_path / "0000000000000000.log"
    written.touch()
    os.utime(written, (NOW_UNIX_S + 3600, NOW_UNIX_S + 3600))
    [finding] = clock_findings(ClockFacts(NOW_UNIX_S, None), tmp_path)
    assert finding.severity is Severity.TROUBLE
    assert "60 min behind 0000000000000000.log" in finding.sentence


def test_clock_a_little_behind_the_log_is_no_finding(tmp_path: Path) -> None:
    written = tmp_path / "state"
    written.touch()
    os.utime(written, (NOW_UNIX_S + 299, NOW_UNIX_S + 299))
    assert list(clock_findings(ClockFacts(NOW_UNIX_S, None), tmp_path)) == []
    assert list(clock_findings(ClockFacts(NOW_UNIX_S, None), tmp_path / "none")) == []


def test_kernel_says_whether_its_clock_is_kept_in_step() -> None:
    state = ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(512))
    assert read_synchronised() is (None if state < 0 else state != 5)


# --- ports ------------------------------------------------------------------------------------------------------


def port(machine: MachineFolder, wanted: Wanted = CLIENTS, broker_pid: int | None = None) -> Finding:
    [finding] = port_findings(machine.machine, (wanted,), broker_pid)
    return finding


def test_port_with_a_stranger_on_it_names_the_stranger(machine: MachineFolder) -> None:
    machine.listening(("127.0.0.1", 7600, 4242))
    machine.process(9, "nginx", "socket:[4242]")
    finding = port(machine)
    assert finding.severity is Severity.TROUBLE
    assert "nginx (pid 9)" in finding.sentence


def test_port_of_the_broker_itself_is_good_and_so_is_a_free_one(machine: MachineFolder) -> None:
    machine.listening(("127.0.0.1", 7600, 4242))
    machine.process(9, "usher", "socket:[4242]")
    assert port(machine, broker_pid=9).severity is Severity.GOOD
    assert port(machine, replace(CLIENTS, port=7601)).severity is Severity.GOOD, "a connection from there is no listener"


def test_port_kept_by_the_service_manager_is_no_trouble(machine: MachineFolder) -> None:
    machine.listening(("0.0.0.0", 7600, 4242))
    machine.process(1, "systemd", "socket:[4242]")
    assert port(machine).severity is Severity.NOTICE


@pytest.mark.parametrize(
    ("wanted", "taken", "collides"),
    [
        ("127.0.0.1", "0.0.0.0", True), ("0.0.0.0", "127.0.0.1", True), ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False), ("::", "127.0.0.1", True), ("::1", "127.0.0.1", False),
    ],
)  # fmt: skip
def test_addresses_collide_as_the_kernel_has_it(machine: MachineFolder, wanted: str, taken: str, collides: bool) -> None:
    machine.listening((taken, 7600, 4242))
    assert (port(machine, Wanted("clients", wanted, 7600)).severity is Severity.TROUBLE) is collides


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_socket_of_this_process_is_found_in_the_tables_of_this_machine(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as ours:
        try:
            ours.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        ours.listen()
        number = ours.getsockname()[1]
        assert [str(one.address) for one in listening(Machine()) if one.port == number] == [host]
        [finding] = port_findings(Machine(), (Wanted("clients", host, number),), os.getpid())
        assert finding.severity is Severity.GOOD


# --- data directory, log, disk ----------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A data directory with a small log and its ballast."""
    folder = tmp_path / "data" / "journal"
    folder.mkdir(parents=True)
    (folder / "ballast").write_bytes(bytes(4096))
    journal = JournalSection(log_size_max=MEBIBYTE, segment_size=65536, ballast_size=4096)
    return Config(broker=BrokerSection(data_dir=tmp_path / "data"), journal=journal)


def me() -> Account:
    return Account("me", os.geteuid(), frozenset(os.getgroups()))


def storage(config: Config, mountinfo: str = ON_DISK, account: Account | None = None) -> list[Finding]:
    found = storage_findings(config, account or me(), mountinfo, NOW_UNIX_S)
    return [one for one in found if one.severity > Severity.GOOD]


def test_data_directory_that_all_is_well_with_has_nothing_to_say(config: Config) -> None:
    assert storage(config) == []


def fault_of_modes(config: Config) -> None:
    (config.data_dir / "secret").write_text("00")
    (config.data_dir / "secret").chmod(0o644)


def fault_of_the_ballast(config: Config) -> None:
    (config.journal_folder / "ballast").unlink()


def fault_of_the_disk(config: Config) -> None:
    (config.journal_folder / "damaged-0001.log").touch()


def fault_of_the_program(config: Config) -> None:
    (config.data_dir / "last-commands").touch()


@pytest.mark.parametrize(
    ("make", "severity", "words"),
    [
        (fault_of_modes, Severity.TROUBLE, "can be read by others"),
        (fault_of_the_ballast, Severity.WARNING, "the ballast is not there"),
        (fault_of_the_disk, Severity.WARNING, "damaged-0001.log"),
        (fault_of_the_program, Severity.NOTICE, "fatal signal"),
    ],
)
def test_each_fault_of_the_files_is_one_finding(config: Config, make: Callable[[Config], None], severity: Severity, words: str) -> None:
    make(config)
    [finding] = storage(config)
    assert finding.severity is severity
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("mountinfo", "words"),
    [
        (ON_DISK.replace("rw,relatime", "ro,relatime"), "read-only"),
        (ON_DISK.replace("ext4", "tmpfs"), "lies in memory"),
        (ON_DISK.replace("ext4", "nfs4"), "waits for the network"),
    ],
)
def test_disk_that_does_not_keep_its_promise_is_named(config: Config, mountinfo: str, words: str) -> None:
    [finding] = storage(config, mountinfo)
    assert words in finding.sentence


def test_disk_without_room_for_a_few_segments_is_trouble_and_for_the_whole_log_a_warning(config: Config) -> None:
    huge = replace(config, journal=replace(config.journal, log_size_max=1 << 62))
    assert [one.severity for one in storage(huge)] == [Severity.WARNING]
    larger = replace(config, journal=replace(config.journal, segment_size=1 << 60))
    assert [one.severity for one in storage(larger)] == [Severity.TROUBLE]


def test_directory_of_somebody_else_is_trouble(config: Config) -> None:
    config.data_dir.chmod(0o700)
    [finding] = storage(config, account=Account("stranger", 4711, frozenset()))
    assert "stranger may not write there" in finding.sentence


def test_longest_mount_above_a_folder_counts_and_the_last_of_equals() -> None:
    other = "26 25 0:5 / /var/lib/us\\040her rw - xfs /dev/b rw\n27 25 0:6 / /var/lib/us\\040her ro - btrfs /dev/c rw"
    text = f"{ON_DISK}\n{other}"
    over = mount_of(Path("/var/lib/us her/journal"), text)
    assert over is not None
    assert (over.filesystem, over.is_read_only) == ("btrfs", True)
    beside = mount_of(Path("/var/lib/us hers"), text)
    assert beside is not None
    assert beside.filesystem == "ext4"


# --- limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "severity"), [("65536", Severity.GOOD), ("unlimited", Severity.GOOD), ("1256", Severity.GOOD), ("1255", Severity.WARNING)]
)
def test_open_files_of_the_running_broker_are_compared_with_its_connections(machine: MachineFolder, limit: str, severity: Severity) -> None:
    machine.process(7, "usher", open_files_max=limit)
    [finding] = limit_findings(machine.root, 7, 1000)
    assert finding.severity is severity
