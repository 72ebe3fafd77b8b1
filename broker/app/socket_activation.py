"""Listening sockets: bound by us, or given by who has bound them: systemd (socket activation), or the broker that is taken over.

Our own have SO_REUSEPORT off, so that two brokers never share a port in silence; port 0 is possible.

systemd passes them as descriptors from 3 on and says so in LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)). One socket
unit has one name for all its sockets, so each is found by its name ("clients", "admin", "http": three units) or else
by its address (one unit with three ListenStream=).

What was configured stays the rule: a socket on another address would serve where nobody has allowed it, without TLS perhaps. systemd's is then
refused with both addresses; one of a predecessor is left aside, for settings may change between two brokers, and a new one is bound.
Main thread, before the event loop serves. Connections queue at these sockets while no broker accepts; that is what they are for.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass

from broker.app.address import Address
from broker.app.config import Config
from broker.errors import AddressInUse, ConfigError, ConfigFault

FIRST_DESCRIPTOR = 3
DESCRIPTORS_MAX = 16
SECTIONS = ("clients", "admin", "http")

SYSTEMD, PREDECESSOR = "systemd", "the broker before this one"


@dataclass(frozen=True, slots=True)
class GivenSocket:
    """One socket that listens already; `name` is empty or what its giver calls it."""

    name: str
    listening: socket.socket

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, port = self.listening.getsockname()[:2]
        return Address(str(host), int(port))


class GivenSockets:
    """The sockets of one giver, each taken once. Without any, every listener binds its own."""

    def __init__(self, given: Iterable[GivenSocket] = (), giver: str = "") -> None:
        self._given = list(given)
        self._giver = giver

    def take(self, section: str, address: Address) -> socket.socket:
        """The socket of a section, non-blocking: a given one that listens on the configured address, else one that is bound now.

        AddressInUse; ConfigError if systemd's socket of that name listens elsewhere.
        """
        option = f"{section}.address"
        found = self._named(section) or self._at(address)
        if found is None:
            return _unblocked(bound_socket(literal(address), option))
        if _is_same(found.address, address):
            self._given.remove(found)
            return _unblocked(found.listening)
        if self._giver == SYSTEMD:
            raise _elsewhere(option, address, found)
        return _unblocked(bound_socket(literal(address), option))

    @property
    def is_kept(self) -> bool:
        """Whether the giver keeps them open, so that nobody may shut them down."""
        return self._giver == SYSTEMD

    def has(self, section: str, address: Address) -> bool:
        """Whether a socket is given for a section, on its address or another."""
        return (self._named(section) or self._at(address)) is not None

    def close(self) -> None:
        """Gives up what nobody has taken. ConfigError for systemd's: a port that is open and not served is a riddle."""
        left, self._given = self._given, []
        faults = tuple(_fault(f"systemd gives a socket on {one.address}, where no listener is configured") for one in left)
        for one in left:
            one.listening.close()
        if faults and self._giver == SYSTEMD:
            raise ConfigError(faults)

    def _named(self, section: str) -> GivenSocket | None:
        return next((one for one in self._given if one.name == section), None)

    def _at(self, address: Address) -> GivenSocket | None:
        if address.port == 0:
            return None  # any would fit, and which is meant nobody has said
        return next((one for one in self._given if one.name not in SECTIONS and _is_same(one.address, address)), None)


def sockets_of_systemd(environment: MutableMapping[str, str] = os.environ) -> GivenSockets:
    """The sockets that systemd has passed to this process; the variables are taken away, so that no child believes them. ConfigError."""
    process, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if process != str(os.getpid()) or not count.isdigit():
        return GivenSockets()
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + min(int(count), DESCRIPTORS_MAX))
    named = names if len(names) == len(descriptors) else [""] * len(descriptors)
    return GivenSockets([_given(name, one) for name, one in zip(named, descriptors, strict=True)], SYSTEMD)


def bind_sockets(config: Config, given: GivenSockets) -> Mapping[str, socket.socket]:
    """The listening sockets by section, bound or given, before anything is built on them. AddressInUse, or ConfigError."""
    sockets = {"admin": given.take("admin", config.admin.address), "http": given.take("http", config.http.address)}
    if config.clients.is_native or given.has("clients", config.clients.address):
        sockets["clients"] = given.take("clients", config.clients.address)
    given.close()
    return sockets


def bound_socket(address: Address, option: str) -> socket.socket:
    """A bound socket that does not listen yet. AddressInUse if it cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last owner has just gone is free, though its connections linger in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise AddressInUse(str(address), option, error.strerror or str(error)) from error
    return listener


def literal(address: Address) -> Address:
    """localhost as the address that every machine has for it: a socket wants one family."""
    return Address("127.0.0.1", address.port) if address.host == "localhost" else address


def _given(name: str, descriptor: int) -> GivenSocket:
    try:
        os.set_inheritable(descriptor, False)
        listening = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError((_fault(f"descriptor {descriptor} is no socket ({error.strerror})"),)) from None
    is_stream = listening.family in (socket.AF_INET, socket.AF_INET6) and listening.type == socket.SOCK_STREAM
    if not is_stream or not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConfigError((_fault(f"descriptor {descriptor} ({name}) is no TCP socket that listens"),))
    return GivenSocket(name, listening)


def _is_same(given: Address, configured: Address) -> bool:
    """Whether a socket listens where it was configured; port 0 stands for any."""
    if configured.port not in (0, given.port):
        return False
    try:
        found = socket.getaddrinfo(literal(configured).host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return given.host in {where[0] for *_, where in found}


def _unblocked(listening: socket.socket) -> socket.socket:
    listening.setblocking(False)
    return listening


def _elsewhere(option: str, address: Address, found: GivenSocket) -> ConfigError:
    reason = f"is {address}, and systemd gives a socket on {found.address}"
    return ConfigError((ConfigFault("usher.socket", option, reason, "write the same address in both"),))


def _fault(reason: str) -> ConfigFault:
    return ConfigFault("usher.socket", "", reason, "see deploy/systemd, and ListenStream= there")
