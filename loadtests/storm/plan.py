"""What a storm is to do: one frozen value, checked when it is made, that travels as JSON.

Load goes to this machine only: a plan for another host is refused. Durations are seconds, as on the command line.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from dataclasses import dataclass
from typing import Any

CYCLES = {
    "noop": "one unary call, over and over",
    "renew": "renews of random sessions, opened before",
    "open_close": "a login and a logout, each of a new user",
    "bundle": "the same with several products",
    "retry": "a login sent twice, and a logout",
    "acquire": "a login, one more product, a logout",
    "churn": "a connection for each renew, or for each login and logout",
    "idle": "connections that are held and say nothing",
}
"""Name -> what it does."""

CONNECTIONS_MAX = 65_536
STREAMS_MAX = 4_096
SOURCES_MAX = 64
PRODUCTS_MAX = 16


@dataclass(frozen=True, slots=True)
class StormPlan:
    """One storm against one server. ValueError for what cannot be.

    Closed loop without `rate_per_s`: each of connections × streams has one call in flight, always. With it, calls are
    meant to be sent at that rate, whatever the server does, and their latency counts from then: what the connections have
    no stream for waits, is sent later, and is counted.
    """

    port: int
    host: str = "127.0.0.1"
    cycle: str = "renew"
    connections: int = 8
    streams: int = 64
    """Calls in flight on each connection; 1 for churn, none for idle."""
    duration_s: float = 10.0
    warmup_s: float = 1.0
    """Before the duration, not measured."""
    rate_per_s: float | None = None
    arrivals: str = "even"
    """"even" or "poisson", drawn from the seed."""
    sessions: int = 0
    """renew and churn: opened first. With none, renew sends 32 random bytes, for servers that do not look."""
    products: tuple[str, ...] = ("platform",)
    """renew, open_close, retry take the first; bundle takes all at once; acquire takes the first, then the rest."""
    path: str = "/broker.v1.Sessions/Renew"
    """noop: the method."""
    body: bytes = b""
    """noop: the message."""
    sources: int = 1
    """Addresses 127.0.0.1, .2, ... that the connections come from: each has ports of its own."""
    tls_ca: str | None = None
    """PEM file of the authority; plaintext without."""
    tls_certificate: str | None = None
    tls_private_key: str | None = None
    seed: int = 1
    processor: int | None = None
    """The CPU that the storm's thread is pinned to."""
    watched_process: int | None = None
    """A process whose CPU time is read over the measured window."""
    allows_denials: bool = False
    """Otherwise a denial is an error."""
    closes_sessions: bool = True
    """Closes the sessions opened first. Without, their request ids and users come from the seed alone, so that the
    next storm with the same seed is given the same sessions."""
    ends_with_server: bool = False
    """The server is going to stop: that ends the storm. Calls cut by it, or told UNAVAILABLE or CANCELLED, are no errors
    then, but counted."""
    patience_s: float = 5.0
    """Without any answer in the end, what is in flight is given up."""
    connect_limit_s: float = 30.0

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(problem)

    def _problem(self) -> str:
        checks = (
            (self.cycle in CYCLES, f"cycle is one of {', '.join(CYCLES)}"),
            (is_loopback(self.host), "load is only sent to this machine: 127.0.0.1 or ::1"),
            (0 < self.port < 65_536, "port is 1 to 65535"),
            (1 <= self.connections <= CONNECTIONS_MAX, f"connections is 1 to {CONNECTIONS_MAX}"),
            (1 <= self.streams <= STREAMS_MAX, f"streams is 1 to {STREAMS_MAX}"),
            (1 <= self.sources <= SOURCES_MAX, f"sources is 1 to {SOURCES_MAX}"),
            (1 <= len(self.products) <= PRODUCTS_MAX, f"1 to {PRODUCTS_MAX} products"),
            (len(set(self.products)) == len(self.products), "each product is named once"),
            (all(1 <= len(one.encode()) <= 32 for one in self.products), "a product has 1 to 32 bytes"),
            (self.arrivals in ("even", "poisson"), "arrivals are even or poisson"),
            (self.rate_per_s is None or 0 < self.rate_per_s <= 10_000_000, "rate_per_s is up to ten million"),
            (self.duration_s > 0 and self.warmup_s >= 0, "the duration is positive, the warm-up not negative"),
            (self.sessions >= 0, "sessions is not negative"),
            (self.cycle != "acquire" or len(self.products) > 1, "acquire needs two products at least"),
            (self.tls_ca is not None or self.tls_certificate is None, "a certificate needs tls_ca too"),
            ((self.tls_certificate is None) == (self.tls_private_key is None), "a certificate needs its private key"),
            (len(self.body) <= 1024, "the body has at most 1024 bytes"),
        )
        return "; ".join(sentence for is_good, sentence in checks if not is_good)

    def to_json(self) -> str:
        """All fields; `body` as hexadecimal digits."""
        return json.dumps(dataclasses.asdict(self) | {"body": self.body.hex()})

    @staticmethod
    def from_json(text: str) -> StormPlan:
        """The plan that `to_json` wrote, or any of its fields. ValueError."""
        fields: dict[str, Any] = json.loads(text)
        known = {field.name for field in dataclasses.fields(StormPlan)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"a plan has no {', '.join(unknown)}")
        if "products" in fields:
            fields["products"] = tuple(fields["products"])
        if "body" in fields:
            fields["body"] = bytes.fromhex(fields["body"])
        return StormPlan(**fields)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
