"""Which Host headers the HTTP port answers: its own names only.

A web page in somebody's browser can make requests to a loopback port under a name of the attacker's choice (DNS rebinding).
Such a request carries that name as its Host, so only loopback names and the configured ones are answered.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from broker.verbs.errors import VerbError
from broker.web.errors import HttpRefusal

LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))
_FORM = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?", re.ASCII)


class HostCheck:
    """The names of one HTTP port: the loopback ones and those given, without ports, in any case."""

    def __init__(self, hosts: Collection[str] = ()) -> None:
        self._names = LOOPBACK_NAMES | {host.lower() for host in hosts}

    def check(self, host: str | None) -> None:
        """421 for any other name, and for none."""
        match = _FORM.fullmatch((host or "").lower())
        if match is not None and match["name"] in self._names:
            return
        raise HttpRefusal(
            421,
            VerbError(
                "PERMISSION_DENIED",
                "HOST_NOT_ALLOWED",
                "This broker does not answer under that host name; use localhost, or let the admin add the name to"
                " http.hosts.",
            ),
        )
