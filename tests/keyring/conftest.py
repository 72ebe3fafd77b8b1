"""A recording ledger, a test vendor, a licence folder and a keyring over emulated keys, for the tests of the keyring."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.keyring import Keyring, KeyringSettings, Surroundings
from broker.licence import LicenceFolder, LicenceTerms, TrustFile, Vendor, create_vendor, issue_licence
from broker.model.terms import PoolTerms
from broker.model.words import EndReason
from hwkey import KeyBus, Waits
from hwkey.emulated import TokenFleet, emulated_bus

NOW_UNIX_S = 1_800_000_000
Call = tuple[Any, ...]


class RecordingSink:
    """A `CapacitySink` that keeps what it is told, and the capacity that follows from it; tests await its changes."""

    def __init__(self) -> None:
        self.pool_count_max = 256
        self.calls: list[Call] = []
        self.pools: list[tuple[str, PoolTerms, bool]] = []
        self.starting: set[int] = set()
        self.sources: dict[int, tuple[int, int, int, int]] = {}  # pool, seats, proven until, grace until
        self.lost: dict[int, tuple[int, EndReason]] = {}
        self._changed = threading.Condition()

    def declare_pool(self, product: str, terms: PoolTerms, is_emulated: bool) -> int:
        identity = (product, terms, is_emulated)
        if identity not in self.pools:
            if len(self.pools) == self.pool_count_max:
                raise ValueError("all pools are used")
            self.pools.append(identity)
        return self.pools.index(identity)

    def set_starting(self, pool: int, is_starting: bool) -> None:
        assert 0 <= pool < len(self.pools)
        with self._changed:
            (self.starting.add if is_starting else self.starting.discard)(pool)
            self._record("starting", pool, is_starting)

    def prove_source(
        self, source_id: int, pool: int, seats: int, proven_until_ns: int, grace_until_ns: int
    ) -> None:
        assert 0 <= pool < len(self.pools)
        assert self.sources.get(source_id, (pool,))[0] == pool, (
            "a source id moved to another pool without a removal"
        )
        with self._changed:
            self.sources[source_id] = (pool, seats, proven_until_ns, grace_until_ns)
            self.lost.pop(source_id, None)
            self._record("prove", source_id, pool, seats)

    def lapse_source(self, source_id: int, pool: int, seats: int, grace_until_ns: int, cause: EndReason) -> None:
        assert 0 <= pool < len(self.pools)
        assert source_id not in self.sources
        with self._changed:
            self.sources[source_id] = (pool, seats, 0, grace_until_ns)
            self.lost[source_id] = (grace_until_ns, cause)
            self._record("lapse", source_id, pool, seats)

    def lose_source(self, source_id: int, grace_until_ns: int, cause: EndReason) -> None:
        assert source_id in self.sources
        assert source_id not in self.lost
        with self._changed:
            self.lost[source_id] = (grace_until_ns, cause)
            self._record("lose", source_id, cause)

    def remove_source(self, source_id: int) -> None:
        assert source_id in self.lost
        with self._changed:
            del self.sources[source_id], self.lost[source_id]
            self._record("remove", source_id)

    def _record(self, *call: Any) -> None:
        self.calls.append(call)
        self._changed.notify_all()

    def seats(self, product: str) -> int:
        """Seats of a product now, as far as the ledger was told."""
        return sum(
            seats
            for source, (pool, seats, _, _) in self.sources.items()
            if source not in self.lost and self.pools[pool][0] == product
        )

    def causes(self) -> list[EndReason]:
        """Why sources were lost, in order."""
        return [call[2] for call in self.calls if call[0] == "lose"]

    def await_seats(self, product: str, seats: int) -> None:
        """Waits until a product has so many seats; fails if it does not come to that."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self.seats(product) == seats, 10)
        assert reached, f"{product} has {self.seats(product)} seats, not {seats}: {self.calls}"


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return create_vendor(tmp_path / "vendor", "Acme", ["platform", "crm", "telephony"], is_test=True)


@pytest.fixture
def folder(tmp_path: Path) -> LicenceFolder:
    (tmp_path / "licences").mkdir()
    return LicenceFolder(tmp_path / "licences")


@pytest.fixture
def licence(vendor: Vendor, folder: LicenceFolder) -> Callable[..., Path]:
    """Puts a licence into the folder and says where."""

    def put(
        licence_id: str,
        thumbprint: str,
        product: str,
        seats: int,
        terms: LicenceTerms | None = None,
        **points: Any,
    ) -> Path:
        document = issue_licence(
            vendor,
            licence_id=licence_id,
            product=product,
            seats=seats,
            thumbprint=thumbprint,
            terms=terms,
            **({"issued_unix_s": NOW_UNIX_S - 1_000} | points),
        )
        path = folder.path / f"{licence_id}.jwt"
        path.write_text(document)
        return path

    return put


MS = 1_000_000
S = 1_000 * MS

SETTINGS = KeyringSettings(
    broker_id="broker-under-test",
    proof_ttl_ns=30 * S,
    reproof_ns_min=50 * MS,
    reproof_ns_max=100 * MS,
    scan_interval_ns=50 * MS,
    retry_ns_min=20 * MS,
    retry_ns_max=100 * MS,
    flap_hold_ns_min=MS,
    flap_hold_ns_max=20 * MS,
)


class WallClock:
    """Wall time that a test sets."""

    def __init__(self) -> None:
        self.unix_s: float = NOW_UNIX_S

    def __call__(self) -> float:
        return self.unix_s


@pytest.fixture
def fleet() -> TokenFleet:
    return TokenFleet()


@pytest.fixture
def wall() -> WallClock:
    return WallClock()


@pytest.fixture
def run(
    fleet: TokenFleet, folder: LicenceFolder, vendor: Vendor, sink: RecordingSink, wall: WallClock
) -> Iterator[Callable[..., Keyring]]:
    """Starts a keyring over the fleet; all are stopped at the end."""
    running: list[Keyring] = []

    def start(
        settings: KeyringSettings = SETTINGS,
        bus: KeyBus | None = None,
        trust: TrustFile | None = None,
        into: RecordingSink | None = None,
        **points: Any,
    ) -> Keyring:
        keyring = Keyring(
            buses=[bus or emulated_bus(fleet, waits=Waits(answer_wait_ms=300, command_wait_ms=1_000))],
            folder=folder,
            trust=trust or vendor.trust,
            sink=into or sink,
            settings=settings,
            surroundings=Surroundings(wall_unix_s=wall),
            **points,
        )
        running.append(keyring)
        keyring.start()
        assert keyring.await_started(10)
        return keyring

    yield start
    for keyring in running:
        keyring.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("keyring-")]
