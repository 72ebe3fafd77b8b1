"""Keys on USB as the doctor sees them: permissions, holders, sleep, hubs, libusb."""

from __future__ import annotations

import os
from pathlib import Path

from broker.doctor import Finding, Severity
from broker.doctor.usb import usb_findings
from hwkey.diagnosis import Account, Machine, NodeFacts, hub_names
from hwkey.diagnosis_libusb import LibusbFacts, libusb_facts, mapped_libraries
from tests.doctor.machine_folder import MachineFolder

ROOT_USER = Account("root", 0, frozenset({0}))
STRANGER = Account("usher", 4711, frozenset({4711}))
NETLINK = LibusbFacts("1.0.30", "/lib/libusb-1.0.so.0", is_udev=False)


def look(machine: MachineFolder, account: Account = ROOT_USER, broker_pid: int | None = None) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for one in usb_findings(machine.machine, account, broker_pid, NETLINK):
        found.setdefault(one.check, []).append(one)
    return found


def test_key_that_all_is_well_with_gives_only_good_findings(machine: MachineFolder) -> None:
    machine.reader("1-2", 5)
    findings = look(machine)
    assert {one.severity for group in findings.values() for one in group} == {Severity.GOOD}
    assert "/dev/bus/usb/001/005" in findings["permission"][0].sentence


def test_devices_without_a_smart_card_interface_are_no_keys(machine: MachineFolder) -> None:
    machine.reader("1-2", 5, interface_class="08")
    [finding] = look(machine)["keys"]
    assert "no security key is plugged in" in finding.sentence


def test_machine_without_usb_is_told_from_one_without_keys(tmp_path: Path) -> None:
    [finding] = [one for one in usb_findings(Machine(tmp_path), ROOT_USER, None, NETLINK) if one.check == "keys"]
    assert "no USB at all" in finding.sentence


# --- permissions ------------------------------------------------------------------------------------------------


def test_no_permission_names_the_rule_to_install(machine: MachineFolder) -> None:
    machine.reader("1-2", 5)
    [finding] = look(machine, STRANGER)["permission"]
    assert finding.severity is Severity.TROUBLE
    assert "usher may not open /dev/bus/usb/001/005 (mode 0664" in finding.sentence
    assert "70-usher.rules" in finding.remedy
    assert "ATTR{idVendor}" not in finding.remedy, "a YubiKey is in the rules already"


def test_model_that_the_rules_do_not_name_gets_its_line(machine: MachineFolder) -> None:
    machine.reader("1-2", 5, vendor="04e6", product="5116")
    [finding] = look(machine, STRANGER)["permission"]
    assert 'ATTR{idVendor}=="04e6", ATTR{idProduct}=="5116", ENV{USHER_KEY}="1"' in finding.remedy


def test_group_of_the_node_lets_its_members_in(machine: MachineFolder) -> None:
    node = machine.reader("1-2", 5, mode=0o660)
    member = Account("usher", 4711, frozenset({node.stat().st_gid}))
    assert look(machine, member)["permission"][0].severity is Severity.GOOD


def test_first_class_that_fits_decides_as_in_the_kernel() -> None:
    owner_shut_out = NodeFacts(uid=7, gid=8, mode=0o066, has_acl=False)
    assert not owner_shut_out.may_open(Account("a", 7, frozenset({8})))
    assert owner_shut_out.may_open(Account("b", 9, frozenset({8})))
    assert owner_shut_out.may_open(Account("c", 9, frozenset()))
    assert not NodeFacts(7, 8, 0o664, has_acl=False).may_open(Account("c", 9, frozenset())), "reading is not enough"


def test_node_that_a_container_does_not_have_is_trouble(machine: MachineFolder) -> None:
    machine.reader("1-2", 5).unlink()
    [finding] = look(machine)["permission"]
    assert finding.severity is Severity.TROUBLE
    assert "container" in finding.remedy


# --- holders ----------------------------------------------------------------------------------------------------


def test_pcscd_that_holds_a_key_is_named_with_how_to_stop_it(machine: MachineFolder) -> None:
    machine.reader("1-2", 5, driver="usbfs")
    machine.process(123, "pcscd", "/dev/bus/usb/001/005")
    machine.process(124, "bystander", "/dev/bus/usb/001/006")
    [finding] = look(machine)["holder"]
    assert finding.severity is Severity.TROUBLE
    assert "pcscd (pid 123)" in finding.sentence
    assert "systemctl disable --now pcscd.socket pcscd.service" in finding.remedy


def test_broker_that_holds_its_key_is_no_trouble(machine: MachineFolder) -> None:
    machine.reader("1-2", 5, driver="usbfs")
    machine.process(77, "usher", "/dev/bus/usb/001/005")
    [finding] = look(machine, broker_pid=77)["holder"]
    assert finding.severity is Severity.GOOD


def test_program_that_only_looks_at_a_device_holds_nothing(machine: MachineFolder) -> None:
    machine.reader("1-2", 5)
    machine.process(123, "lsusb", "/dev/bus/usb/001/005")
    assert "holder" not in look(machine)


def test_claim_by_nobody_that_is_seen_says_to_look_as_root(machine: MachineFolder) -> None:
    machine.reader("1-2", 5, driver="usbfs")
    [finding] = look(machine)["holder"]
    assert "as root" in finding.remedy


def test_driver_of_the_kernel_on_the_reader_is_named_and_that_of_another_interface_is_not(machine: MachineFolder) -> None:
    machine.reader("1-2", 5, driver="cdc_acm")
    [finding] = look(machine)["holder"]
    assert "cdc_acm" in finding.sentence


def test_this_process_is_found_as_the_holder_of_its_own_file(tmp_path: Path) -> None:
    held = tmp_path / "held"
    descriptor = os.open(held, os.O_CREAT | os.O_RDONLY)
    try:
        assert os.getpid() in [one.pid for one in Machine().holders(str(held)).processes]
    finally:
        os.close(descriptor)
    assert Machine().holders(str(held)).processes == ()


# --- sleep and place --------------------------------------------------------------------------------------------


def test_key_that_may_fall_asleep_is_a_warning_with_what_to_write(machine: MachineFolder) -> None:
    machine.reader("1-2", 5, control="auto")
    [finding] = look(machine)["autosuspend"]
    assert finding.severity is Severity.WARNING
    assert "/sys/bus/usb/devices/1-2/power/control" in finding.remedy


def test_negative_delay_keeps_a_key_awake(machine: MachineFolder) -> None:
    machine.reader("1-2", 5, control="auto")
    machine.write("sys/bus/usb/devices/1-2/power/autosuspend_delay_ms", "-1000")
    assert "autosuspend" not in look(machine)


def test_two_keys_on_a_hub_without_power_of_its_own_are_a_warning(machine: MachineFolder) -> None:
    machine.hub("1-2", attributes="80")
    machine.reader("1-2.1", 5)
    assert "hub" not in look(machine), "one key is what such a hub can feed"
    machine.reader("1-2.2", 6)
    [finding] = look(machine)["hub"]
    assert finding.subject == "1-2 USB2.0 Hub"
    assert "2 keys" in finding.sentence


def test_hub_with_power_of_its_own_may_carry_many_keys(machine: MachineFolder) -> None:
    machine.hub("1-2")
    machine.reader("1-2.1", 5)
    machine.reader("1-2.2", 6)
    assert "hub" not in look(machine)


def test_place_names_every_hub_above_it() -> None:
    assert list(hub_names("3-1")) == ["usb3"]
    assert list(hub_names("1-2.3.4")) == ["usb1", "1-2", "1-2.3"]


def test_key_attached_over_usbip_is_said(machine: MachineFolder) -> None:
    machine.write("sys/bus/usb/devices/usb1/product", "USB/IP Virtual Host Controller")
    machine.reader("1-2", 5, vendor="1209", product="0001")
    [finding] = look(machine)["place"]
    assert finding.severity is Severity.NOTICE


# --- libusb -----------------------------------------------------------------------------------------------------


def test_libusb_with_udev_is_a_warning_only_where_udevd_does_not_run(machine: MachineFolder) -> None:
    debian = LibusbFacts("1.0.26", "/lib/libusb-1.0.so.0", is_udev=True)
    without = next(usb_findings(machine.machine, ROOT_USER, None, debian))
    machine.write("run/udev/control", "")
    with_udevd = next(usb_findings(machine.machine, ROOT_USER, None, debian))
    assert (without.severity, with_udevd.severity) == (Severity.WARNING, Severity.GOOD)


def test_missing_libusb_is_trouble(machine: MachineFolder) -> None:
    assert next(usb_findings(machine.machine, ROOT_USER, None, None)).severity is Severity.TROUBLE


def test_libusb_of_this_machine_says_its_version_and_file() -> None:
    facts = libusb_facts()
    assert facts is not None, "the tests of the driver need libusb-1.0"
    assert facts.version.startswith("1.0.")
    assert Path(facts.file).exists()


def test_mappings_tell_whether_libudev_is_loaded() -> None:
    libusb = "7f1-7f2 r-xp 00000000 fe:00 12 /usr/lib/libusb-1.0.so.0.3.0\n7f3-7f4 rw-p 00000000 00:00 0\n"
    assert mapped_libraries(libusb) == ("/usr/lib/libusb-1.0.so.0.3.0", False)
    assert mapped_libraries(libusb + "7f5-7f6 r-xp 00000000 fe:00 13 /usr/lib/libudev.so.1.7.5\n")[1]
