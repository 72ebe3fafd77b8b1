"""Findings about ports: is each listener's free, the broker's own, or somebody else's, and whose.

Nothing is bound: the kernel's table of listening sockets is read (proc(5), net/tcp and net/tcp6) and the socket looked for among the
open files of processes. Addresses in that table are hexadecimal words in the machine's own byte order.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from broker.doctor.finding import Finding, good, notice, trouble
from hwkey.diagnosis import Machine, Process

LISTENING = "0A"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Wanted:
    """A listener's address. `host` is a name or an address."""

    section: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Listening:
    """One listening socket of this machine."""

    address: Address
    port: int
    inode: str


def port_findings(machine: Machine, wanted: tuple[Wanted, ...], broker_pid: int | None) -> Iterator[Finding]:
    """One finding a listener."""
    sockets = listening(machine)
    for one in wanted:
        yield _finding(machine, one, [other for other in sockets if _collide(one, other)], broker_pid)


def listening(machine: Machine) -> list[Listening]:
    """All listening TCP sockets; empty where proc does not show them."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            lines = (machine.root / "proc/net" / name).read_text(encoding="ascii", errors="replace").splitlines()[1:]
        except OSError:
            continue
        found += [one for line in lines if (one := _parsed(line)) is not None]
    return found


def _parsed(line: str) -> Listening | None:
    fields = line.split()
    if len(fields) < 10 or fields[3] != LISTENING:
        return None
    host, _, port = fields[1].partition(":")
    try:
        return Listening(_address(bytes.fromhex(host)), int(port, 16), fields[9])
    except ValueError:
        return None


def _address(words: bytes) -> Address:
    """From 32-bit words in the machine's order."""
    in_order = words
    if sys.byteorder == "little":
        in_order = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    address = ipaddress.ip_address(in_order)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _collide(wanted: Wanted, other: Listening) -> bool:
    """Whether both cannot listen at once; a name is taken for any address."""
    if wanted.port == 0 or wanted.port != other.port:
        return False
    try:
        address = ipaddress.ip_address(wanted.host)
    except ValueError:
        return True
    return address == other.address or address.is_unspecified or other.address.is_unspecified


def _finding(machine: Machine, wanted: Wanted, taken: list[Listening], broker_pid: int | None) -> Finding:
    subject = f"{wanted.section} {wanted.host}:{wanted.port}"
    if not taken:
        return good("port", subject, "is free" if broker_pid is None else "nobody listens there")
    owners = [process for socket in taken for process in machine.holders(f"socket:[{socket.inode}]").processes]
    if broker_pid is not None and any(one.pid == broker_pid for one in owners):
        return good("port", subject, "the broker listens there")
    if any(one.pid == 1 for one in owners):
        return notice("port", subject, "the service manager keeps it (usher.socket?) and passes it to the service")
    remedy = f"stop it, or write another address into [{wanted.section}]"
    return trouble("port", subject, f"is taken by {_names(owners)}", remedy)


def _names(owners: list[Process]) -> str:
    names = sorted({str(one) for one in owners})
    return ", ".join(names) if names else "a process that this user may not look into (try as root)"
