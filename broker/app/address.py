"""A listener's address: host and port, as an admin writes it.

"127.0.0.1:7600", "[::1]:7600", "broker.example:7600". Port 0 lets the kernel choose. No look-ups: only literal loopback
addresses and the name localhost count as loopback, since what a name means can change after the check.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. `host` has no brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host_header}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_every_interface(self) -> bool:
        """Whether it stands for all addresses of the machine, so that it is no name to be asked for."""
        return self.host in ("0.0.0.0", "::")

    @property
    def host_header(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def with_port(self, port: int) -> Address:
        """The same host with another port."""
        return Address(self.host, port)


def parse_address(text: str) -> Address:
    """The address in a text; ValueError says in half a sentence what is wrong with it."""
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError("has no port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        _check_ipv6(host)
    elif ":" in host:
        raise ValueError("is an IPv6 address without brackets")
    if not host or any(letter.isspace() for letter in host):
        raise ValueError("has no host")
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > PORT_MAX:
        raise ValueError(f"has no port between 0 and {PORT_MAX}")
    return Address(host, int(port_text))


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError("has no IPv6 address in its brackets") from None
