"""Our udev rules, applied by a small reading of udev(7) in the order of their names, beside those of libccid."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from broker.doctor.usb import LISTED

FOLDER = Path(__file__).parents[2] / "deploy" / "udev"
OURS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.rules"))}
# As libccid ships them: older ones let readers sleep, newer ones give them to pcscd as well.
LIBCCID = {
    "92-libccid.rules": 'ENV{ID_USB_INTERFACES}=="*:0b0000:*", GROUP="pcscd", MODE="0660", ATTR{power/control}="auto"\n',
}
TOKEN = re.compile(r'^(?P<name>[A-Z]+)(\{(?P<of>[\w/]+)\})?(?P<operator>==|!=|\+=|=)"(?P<value>[^"]*)"$')
MATCHES = {"==", "!="}
NAMES = {"ACTION", "SUBSYSTEM", "ENV", "ATTR", "GROUP", "MODE", "TAG", "GOTO", "LABEL"}


@dataclass
class Device:
    """What udev knows of a device, and what rules make of it."""

    words: dict[str, str]
    tags: set[str] = field(default_factory=set)


def usb_device(vendor: str, product: str, interfaces: str = ":0b0000:", action: str = "add") -> Device:
    words = {"ACTION": action, "SUBSYSTEM": "usb", "ENV{DEVTYPE}": "usb_device", "ENV{ID_USB_INTERFACES}": interfaces}
    return Device({**words, "ATTR{idVendor}": vendor, "ATTR{idProduct}": product, "GROUP": "root", "MODE": "0664"})


def tokens_of(line: str) -> list[tuple[str, str, str]]:
    """(name, operator, value) of one rule; AssertionError for what this reading, or udev, does not know."""
    found = []
    for text in re.split(r",\s*(?=[A-Z])", line.strip().rstrip(",")):
        token = TOKEN.match(text)
        assert token, f"no token of a rule: {text!r}"
        assert token["name"] in NAMES, text
        name = token["name"] + (f"{{{token['of']}}}" if token["of"] else "")
        found.append((name, token["operator"], token["value"]))
    return found


def apply(rules: dict[str, str], device: Device) -> Device:
    """The device after all files, in the order of their names."""
    for name in sorted(rules):
        waiting_for = ""
        for line in rules[name].splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            waiting_for = apply_rule(tokens_of(line), device, waiting_for)
        assert not waiting_for, f"{name}: there is no label {waiting_for}"
    return device


def apply_rule(tokens: list[tuple[str, str, str]], device: Device, waiting_for: str) -> str:
    """One rule; the label that the rest of the file is skipped up to."""
    if waiting_for:
        return "" if ("LABEL", "=", waiting_for) in tokens else waiting_for
    if not all(is_match(device, *token) for token in tokens if token[1] in MATCHES):
        return ""
    for name, operator, value in tokens:
        if operator == "+=":
            device.tags.add(value)
        elif operator == "=" and name == "GOTO":
            waiting_for = value
        elif operator == "=" and name != "LABEL":
            device.words[name] = value
    return waiting_for


def is_match(device: Device, name: str, operator: str, value: str) -> bool:
    found = device.words.get(name, "")
    return any(fnmatchcase(found, pattern) for pattern in value.split("|")) is (operator == "==")


@pytest.mark.parametrize(("vendor", "product"), sorted((f"{one:04x}", f"{other:04x}") for one, other in LISTED))
def test_every_listed_key_belongs_to_the_brokers_group_and_stays_awake(vendor: str, product: str) -> None:
    device = apply(OURS | LIBCCID, usb_device(vendor, product, ":030101:030000:0b0000:"))
    assert (device.words["GROUP"], device.words["MODE"], device.words["ATTR{power/control}"]) == ("usher", "0660", "on")
    assert device.tags == {"uaccess"}


@pytest.mark.parametrize(
    "device",
    [
        usb_device("04e6", "5116"),  # a reader that is pcscd's
        usb_device("1050", "0407", ":030101:030000:"),  # a key whose smart card interface is switched off
        usb_device("1050", "0010"),
        usb_device("20a0", "0407"),
    ],
    ids=["other reader", "no smart card interface", "other model", "other vendor"],
)
def test_other_devices_are_left_as_they_are(device: Device) -> None:
    before = dict(apply(LIBCCID, Device(dict(device.words))).words)
    after = apply(OURS | LIBCCID, device)
    assert {name: value for name, value in after.words.items() if name != "ENV{USHER_KEY}"} == before
    assert after.tags == set()


def test_device_that_leaves_is_not_touched() -> None:
    device = apply(OURS, usb_device("1050", "0407", action="remove"))
    assert device.tags == set()
    assert device.words["GROUP"] == "root"


def test_tag_comes_before_the_seat_rules_and_the_group_after_libccids() -> None:
    rules = {name: [line for line in text.splitlines() if not line.startswith("#")] for name, text in OURS.items()}
    tagging = [name for name, lines in rules.items() if any("uaccess" in line for line in lines)]
    giving = [name for name, lines in rules.items() if any("GROUP=" in line for line in lines)]
    assert tagging == ["70-usher.rules"]
    assert giving == ["99-usher.rules"]
    assert tagging[0] < "73-seat-late.rules" < "92-libccid.rules" < giving[0]
