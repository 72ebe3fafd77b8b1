"""Findings about security keys on USB: may they be opened, who holds them, do they sleep, what do they hang on, which libusb.

Why each of these keeps a key from proving itself, and how that was seen: permissions are root's alone without a udev rule; pcscd and
scdaemon claim readers as soon as something asks them; an autosuspended key fails its next open; a libusb with udev sees no plug-in without udevd.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from broker.doctor.finding import Finding, good, notice, trouble, warning
from hwkey.diagnosis import Account, Machine, ReaderFacts
from hwkey.diagnosis_libusb import LibusbFacts

RULES = "deploy/udev/70-usher.rules and 99-usher.rules"
LISTED = frozenset(
    {(0x1050, product) for product in (0x0111, 0x0112, 0x0115, 0x0116, 0x0404, 0x0405, 0x0406, 0x0407)}
    | {(0x20A0, 0x42B2), (0x1209, 0xBEEE), (0x1209, 0x0001)}
)
"""Vendor and product numbers that our udev rule names; a test compares."""
DEPTH_MAX = 4
"""Hubs of an admin's own above a key. USB allows five; the last one is where cables and power give out first."""
VIRTUAL_CONTROLLERS = ("USB/IP", "VHCI", "vhci")

STOPPING: dict[str, str] = {
    "pcscd": "`systemctl disable --now pcscd.socket pcscd.service`; or, if other readers need it, let it pass ours by: "
    'PCSCLITE_FILTER_IGNORE_READER_NAMES="Yubico:Nitrokey" in /etc/default/pcscd, then `systemctl restart pcscd`',
    "scdaemon": "`gpgconf --kill scdaemon`, and write `disable-ccid` into ~/.gnupg/scdaemon.conf of that user",
    "qemu-system-x86": "take the device from the virtual machine",
}


def usb_findings(
    machine: Machine, account: Account, broker_pid: int | None, libusb: LibusbFacts | None
) -> Iterator[Finding]:
    """Everything about USB. `account` is who runs the broker, `broker_pid` the one that runs now."""
    yield from libusb_findings(machine, libusb)
    readers = machine.readers()
    if not readers:
        yield _no_readers(machine)
    for reader in readers:
        yield from permission_findings(machine, reader, account)
        yield from holder_findings(machine, reader, broker_pid)
        yield from power_findings(reader)
        yield from place_findings(reader)
    yield from shared_hub_findings(readers)


def libusb_findings(machine: Machine, libusb: LibusbFacts | None) -> Iterator[Finding]:
    """Is there a libusb, and does it hear of plug-ins here."""
    if libusb is None:
        yield trouble(
            "libusb", "libusb-1.0", "it is not installed: no security key can be seen", "on Debian: `apt install libusb-1.0-0`"
        )
        return
    subject = f"libusb {libusb.version}"
    if not libusb.is_udev:
        yield good("libusb", subject, f"listens to the kernel itself ({libusb.file or 'file unknown'})")
    elif (machine.root / "run/udev/control").exists():
        yield good("libusb", subject, f"hears of keys from udevd, which runs ({libusb.file or 'file unknown'})")
    else:
        yield warning(
            "libusb",
            subject,
            "was built to hear of keys from udevd, and none runs here: a key that is plugged in later may go unseen until the broker is restarted",
            "run udevd (in a container: on the host, and mount /run/udev), or put a libusb built without udev in its place",
        )


def permission_findings(machine: Machine, reader: ReaderFacts, account: Account) -> Iterator[Finding]:
    """May the broker's user open it."""
    subject = _subject(reader)
    node = machine.node(reader.node)
    if node is None:
        yield trouble(
            "permission", subject, f"the kernel shows it, and {reader.node} is not here",
            "in a container: pass /dev/bus/usb in (`--device /dev/bus/usb`, or a bind mount with a device rule for major 189)",
        )  # fmt: skip
        return
    if node.may_open(account):
        yield good("permission", subject, f"{account.name} may open {reader.node}")
        return
    mode = f"mode {node.mode:04o}, owner {node.uid}, group {node.gid}"
    if node.has_acl:
        yield notice("permission", subject, f"{reader.node} ({mode}) opens to {account.name} only if its access list says so (`getfacl`)")
        return
    yield trouble("permission", subject, f"{account.name} may not open {reader.node} ({mode})", _rule_remedy(reader, account))


def holder_findings(machine: Machine, reader: ReaderFacts, broker_pid: int | None) -> Iterator[Finding]:
    """Has somebody else claimed it."""
    subject = _subject(reader)
    for driver in sorted(set(reader.drivers) - {"usbfs"}):
        yield trouble(
            "holder", subject, f"the kernel's driver {driver} holds its smart card interface",
            f"`echo -n {reader.usb_path}:1.0 > /sys/bus/usb/drivers/{driver}/unbind`, and keep that driver from it",
        )  # fmt: skip
    if not reader.is_claimed:
        return
    holders = machine.holders(str(reader.node))
    others = [one for one in holders.processes if one.pid != broker_pid]
    if len(others) < len(holders.processes):
        yield good("holder", subject, "the broker holds it")
        return
    for process in others:
        remedy = STOPPING.get(process.name, f"stop it, if it is not needed: `kill {process.pid}`")
        yield trouble("holder", subject, f"{process} holds it, so that the broker cannot", remedy)
    if not others:
        hidden = f"; {holders.hidden_count} processes could not be looked into" if holders.hidden_count else ""
        yield trouble("holder", subject, f"a program holds it that is not seen from here{hidden}", "run `usher doctor` as root, outside of containers")


def power_findings(reader: ReaderFacts) -> Iterator[Finding]:
    """Can it fall asleep."""
    if not reader.can_autosuspend:
        return
    asleep = ", and it is asleep now" if reader.runtime_status == "suspended" else ""
    yield warning(
        "autosuspend", _subject(reader),
        f"the kernel may put it to sleep when it is idle{asleep}: many keys then fail the next time they are opened",
        f"install {RULES}; at once: `echo on > /sys/bus/usb/devices/{reader.usb_path}/power/control`",
    )  # fmt: skip


def place_findings(reader: ReaderFacts) -> Iterator[Finding]:
    """What it hangs on."""
    root, own = reader.hubs[0], reader.hubs[1:]
    if any(word in root.product for word in VIRTUAL_CONTROLLERS):
        yield notice("place", _subject(reader), "is attached over USB/IP: the key itself is elsewhere, or emulated")
    if len(own) > DEPTH_MAX:
        yield warning("place", _subject(reader), f"hangs on {len(own)} hubs in a row", "plug it in nearer to the machine")


def shared_hub_findings(readers: list[ReaderFacts]) -> Iterator[Finding]:
    """Several keys on a hub that draws its power from the bus: all come and go together when that gives out."""
    counts = Counter(hub for reader in readers for hub in reader.hubs if not hub.is_root and not hub.is_self_powered)
    for hub, count in sorted(counts.items(), key=lambda one: one[0].usb_path):
        if count > 1:
            yield warning(
                "hub", f"{hub.usb_path} {hub.product}".strip(),
                f"{count} keys share this hub, which has no power supply of its own", "use a hub with one, so that no key starves another",
            )  # fmt: skip


def _no_readers(machine: Machine) -> Finding:
    if not machine.has_usb:
        return warning("keys", "USB", "this machine shows no USB at all", "pass USB through to this virtual machine or container")
    return warning("keys", "USB", "no security key is plugged in", "plug one in, or look at hub, cable and `dmesg` if one is")


def _rule_remedy(reader: ReaderFacts, account: Account) -> str:
    install = f"install {RULES}, put {account.name} into the group usher (`usermod -aG usher {account.name}`), then `udevadm control --reload`"
    replug = " and plug the key in again"
    if (reader.vendor_id, reader.product_id) in LISTED:
        return install + replug
    line = f'ATTR{{idVendor}}=="{reader.vendor_id:04x}", ATTR{{idProduct}}=="{reader.product_id:04x}", ENV{{USHER_KEY}}="1"'
    return f"{install}; this model is not in 70-usher.rules yet: add the line {line}{replug}"


def _subject(reader: ReaderFacts) -> str:
    return f"{reader.usb_path} {reader.product or f'{reader.vendor_id:04x}:{reader.product_id:04x}'}"
