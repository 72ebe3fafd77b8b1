"""A machine in a folder: what sysfs, proc and dev would show, for what looks at a machine below a root of its own."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from hwkey.diagnosis import Machine

DEVICES = "sys/bus/usb/devices"


class MachineFolder:
    """Builds one; `machine` looks at it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = Machine(root)
        self.write(f"{DEVICES}/usb1/product", "xHCI Host Controller")
        self.write(f"{DEVICES}/usb1/bmAttributes", "e0")

    def write(self, path: str, text: str) -> Path:
        """A file of sysfs or proc, with the newline that the kernel adds."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        return file

    def hub(self, place: str, *, attributes: str = "e0", product: str = "USB2.0 Hub") -> None:
        """A hub; `attributes` 80 draws its power from the bus."""
        self.write(f"{DEVICES}/{place}/product", product)
        self.write(f"{DEVICES}/{place}/bmAttributes", attributes)

    def reader(
        self, place: str, address: int, *, vendor: str = "1050", product: str = "0407", control: str = "on", mode: int = 0o664,
        interface_class: str = "0b", driver: str = "",
    ) -> Path:  # fmt: skip
        """A composite device whose third interface is a reader; its node, of whoever runs the test."""
        for name, text in (
            ("idVendor", vendor), ("idProduct", product), ("product", "YubiKey OTP+FIDO+CCID"), ("busnum", "1"), ("devnum", str(address)),
            ("power/control", control), ("power/autosuspend_delay_ms", "2000"), ("power/runtime_status", "active"),
        ):  # fmt: skip
            self.write(f"{DEVICES}/{place}/{name}", text)
        self.write(f"{DEVICES}/{place}:1.0/bInterfaceClass", "03")
        (self.root / DEVICES / f"{place}:1.0/driver").symlink_to("../../../bus/usb/drivers/usbhid")
        self.write(f"{DEVICES}/{place}:1.2/bInterfaceClass", interface_class)
        if driver:
            self.claim(place, driver)
        node = self.write(f"dev/bus/usb/001/{address:03d}", "")
        node.chmod(mode)
        return node

    def claim(self, place: str, driver: str = "usbfs") -> None:
        """The reader's interface has a driver; usbfs is a program."""
        (self.root / DEVICES / f"{place}:1.2/driver").symlink_to(f"../../../bus/usb/drivers/{driver}")

    def process(self, pid: int, name: str, *open_files: str, open_files_max: str = "65536") -> None:
        """A process and what it has open."""
        self.write(f"proc/{pid}/comm", name)
        self.write(f"proc/{pid}/limits", f"Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 {open_files_max}                files")
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir()
        for number, target in enumerate(("/dev/null", *open_files)):
            (folder / str(number)).symlink_to(target)

    def listening(self, *sockets: tuple[str, int, int]) -> None:
        """The kernel's table of (IPv4 address, port, inode), and a connection that is none of them."""
        lines = ["  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"]
        lines += [_line(address, port, "0A", inode) for address, port, inode in sockets]
        lines += [_line("127.0.0.1", 7601, "01", 99)]
        self.write("proc/net/tcp", "\n".join(lines))


def _line(address: str, port: int, state: str, inode: int) -> str:
    (word,) = struct.unpack("=I", socket.inet_aton(address))
    return f"   0: {word:08X}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1"
