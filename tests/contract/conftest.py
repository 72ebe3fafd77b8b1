"""The implementations of Sessions that the contract holds against, each a real broker process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

from tests.contract.generated import Api, generate
from tests.contract.harness import Door, Security
from tests.support.broker_process import RunningBroker, running_broker
from tests.support.certificates import TestAuthority
from tests.support.data_planes import NEEDS_NATIVE

IDENTITY = "crm-web.example"

FLEET = [
    {"name": "alpha", "seats": {"platform": 5}},
    {"name": "bravo", "seats": {"platform": 10}},
    {"name": "charlie", "seats": {"crm": 10, "telephony": 5}},
    {
        "name": "delta",
        "licences": [{"product": "desk", "seats": 2, "terms": {"sharing": "user", "share_max": 2}}],
    },
]
CAPACITIES = {"platform": 15, "crm": 10, "telephony": 5, "desk": 2}


@dataclass(frozen=True, slots=True)
class Implementation:
    """What serves the client port, and how its connections are secured: plaintext, tls or mutual."""

    name: str
    security: str
    threads: int = 1
    durability: str = "strict"

    def settings(self, authority: TestAuthority) -> dict[str, dict[str, Any]]:
        """Its part of usher.toml."""
        sections: dict[str, dict[str, Any]] = {
            "sessions": {"ttl_s": 60, "renew_grace_s": 0.5},
            "keys": {"scan_interval_s": 0.1},
        }
        sections["clients"] = {"data_plane": self.name, "threads": self.threads}
        sections["journal"] = {"durability": self.durability}
        if self.security != "plaintext":
            is_mutual = self.security == "mutual"
            sections["clients"]["tls"] = authority.server_tls(is_mutual=is_mutual)
        return sections

    def client_security(self, authority: TestAuthority) -> Security:
        """What a client of it needs."""
        if self.security == "plaintext":
            return Security()
        ca = authority.ca.read_bytes()
        if self.security == "tls":
            return Security(ca)
        files = authority.client(IDENTITY)
        return Security(ca, files.certificate.read_bytes(), files.private_key.read_bytes())


IMPLEMENTATIONS = (
    Implementation("native", "plaintext"),
    Implementation("native", "tls", threads=2),  # whose connections are dealt out: what one does, the others must hear of
    Implementation("native", "mutual", durability="none"),
    # When answers leave is no business of their contents: each durability has a row, not each row each durability.
    Implementation("grpcio", "plaintext"),
    Implementation("grpcio", "tls", durability="relaxed"),
    Implementation("grpcio", "mutual", durability="none"),
)


def parameters(*implementations: Implementation) -> list[ParameterSet]:
    """As parameters of a fixture; those that this checkout has not built are skipped, with a line that says so."""
    return [
        pytest.param(one, marks=NEEDS_NATIVE if one.name == "native" else (), id=f"{one.name}-{one.security}")
        for one in implementations
    ]


@dataclass(frozen=True, slots=True)
class Subject:
    """A running implementation."""

    implementation: Implementation
    broker: RunningBroker
    security: Security


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """Stubs made from proto/ for this run."""
    return generate(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="session", params=parameters(*IMPLEMENTATIONS))
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """One broker process an implementation, for all tests of this run."""
    implementation: Implementation = request.param
    directory = tmp_path_factory.mktemp(f"{implementation.name}-{implementation.security}")
    authority = TestAuthority(directory / "certificates")
    with running_broker(
        directory, settings=implementation.settings(authority), emulated_keys=FLEET
    ) as broker:
        yield Subject(implementation, broker, implementation.client_security(authority))


@pytest.fixture
def door(api: Api, subject: Subject) -> Iterator[Door]:
    """A way to the implementation under test; the broker is empty before and after."""
    identity = IDENTITY if subject.implementation.security == "mutual" else ""
    door = Door(api, subject.broker, subject.security, identity)
    try:
        yield door
    finally:
        door.clear()


@pytest.fixture
def with_all_keys(door: Door) -> Iterator[Door]:
    """For tests that pull keys: afterwards all are plugged in and proven again."""
    try:
        yield door
    finally:
        for entry in FLEET:
            door.broker.plug(entry["name"])
        for product, capacity in CAPACITIES.items():
            door.broker.await_capacity(product, capacity)
