"""What a Collector reads in the tests: a real ledger with a day's life in it, and views of keys and licences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from broker._ledger import Ledger
from broker.history.writer import HistoryCounters
from broker.keyring import KeyringViews, KeyState, KeyView, LicenceState, LicenceView
from broker.model.durability import DurabilityView, RecoveryFacts, SnapshotView
from broker.model.journal import SYNC_BUCKET_BOUNDS_NS, JournalCounters
from broker.model.listener import CallCounts, ListenerCounters
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, Sharing
from broker.verbs.seams import BrokerFacts
from broker.verbs.stats import BUCKET_BOUNDS_SECONDS, RequestStats
from broker.web.metric_sources import LedgerBounds
from broker.web.metrics import UsherCollector, build_registry

SECOND_NS = 1_000_000_000
FAR_NS = 10**6 * SECOND_NS
BOUNDS = LedgerBounds(
    sessions_max=100,
    leases_max=200,
    charges_max=200,
    requests_max=400,
    denials_max=50,
    text_size_max=1 << 20,
    event_ring_size=1 << 20,
)
FACTS = BrokerFacts(
    version="1.2.3",
    broker_id=bytes(range(8)),
    generation=7,
    start_unix_ns=1_790_000_000 * SECOND_NS,
    data_plane="grpcio",
    durability="none",
)

SECURITY_KEY = KeyView(
    thumbprint="NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    state=KeyState.PRESENT,
    code="",
    sentence="",
    description="Token 5, serial 1002",
    address="1-2",
    is_emulated=False,
    seats={"platform": 10, "crm": 5},
    last_proof_age_ns=12 * SECOND_NS,
    proof_latency_ns=40_000_000,
    proof_count=9,
    proof_failure_count=1,
    grace_left_ns=300 * SECOND_NS,
)
LICENCE = LicenceView(
    licence_id="acme-17",
    vendor="acme",
    product="platform",
    seats=10,
    state=LicenceState.COUNTING,
    code="",
    sentence="",
    thumbprint=SECURITY_KEY.thumbprint,
    file="acme-17.jwt",
    not_before_unix_s=1_700_000_000,
    expires_unix_s=1_900_000_000,
    is_test=False,
    terms="concurrent, per session",
    customer="",
)


COUNTED = ListenerCounters(
    calls={
        ("Sessions/Open", "granted"): CallCounts(
            bucket_counts=(0, 2, 0, 1, *[0] * (len(BUCKET_BOUNDS_SECONDS) - 3)), sum_ns=150_000
        ),
        ("Sessions/Renew", "ok"): CallCounts(bucket_counts=(7, *[0] * len(BUCKET_BOUNDS_SECONDS)), sum_ns=35_000),
        ("Health/Check", "ok"): CallCounts(bucket_counts=(1, *[0] * len(BUCKET_BOUNDS_SECONDS)), sum_ns=5_000),
    },
    connections=3,
    connections_accepted=5,
    connections_closed=2,
    streams=12,
    streams_refused=1,
    messages_received=13,
    messages_sent=14,
    bytes_received=1500,
    bytes_sent=1600,
    goaways_sent=1,
    goaways_received=2,
    tls_handshakes=4,
    tls_failures={"client_certificate": 3},
    refused={"connections": 0, "resets": 2},
    batches=6,
    batched_commands=11,
    held_answers=0,
    held_size=0,
    held_full_count=0,
    keep_alive_streams=1,
    watched_sessions=9,
    notices=2,
    rounds=40,
)
"""What a native data plane might have counted."""


JOURNALED = DurabilityView(
    mode="strict",
    is_learning=True,
    recovery=RecoveryFacts(sessions=3, event_size=4_096, duration_ns=250_000_000, was_clean=False, notes=("a torn tail was cut",)),
    snapshot=SnapshotView(unix_ns=1_790_000_100 * SECOND_NS, size=8_192, behind_size=512, written_count=2, failed_count=1),
    snapshot_after_size=1 << 26,
    log_size_max=1 << 32,
    ballast_size=1 << 26,
    counters=JournalCounters(
        groups=10,
        event_size=6_400,
        written_size=6_560,
        syncs=10,
        sync_ns=3_000_000,
        sync_bucket_counts=(0, 4, 5, 0, 1, *[0] * (len(SYNC_BUCKET_BOUNDS_NS) - 4)),
        largest_group_size=1_280,
        rolls=3,
        rolls_without_spare=1,
        retired=2,
        wakes=9,
        segment_count=2,
        log_size=2 << 24,
        committed=70_000,
        oldest=8_192,
        spare_errno=0,
    ),
)
"""What a journal might have counted."""


HISTORY = HistoryCounters(
    position=60_000, behind_size=10_000, events=900, transactions=4, gaps=1, gap_size=640, rebuilds=0, failures=2, failure="the disk is full"
)
"""What a history might have counted."""


class ShownKeyring:
    """A keyring that shows what it was given."""

    def __init__(self, *keys: KeyView, licences: tuple[LicenceView, ...] = ()) -> None:
        self.shown = KeyringViews(
            keys=tuple(keys), licences=licences, is_starting=False, is_clock_suspect=False, faults=()
        )

    def views(self) -> KeyringViews:
        return self.shown


class Bench:
    """A broker's insides without its outside: ledger, keyring views, statistics and the Collector over them."""

    def __init__(
        self,
        *keys: KeyView,
        licences: tuple[LicenceView, ...] = (),
        counted: ListenerCounters | None = None,
        journaled: DurabilityView | None = None,
        history: HistoryCounters | None = None,
    ) -> None:
        self.now_ns = SECOND_NS
        self._request_count = 0
        bounds = {name: getattr(BOUNDS, name) for name in LedgerBounds.__slots__}
        self.ledger = Ledger(broker_id=bytes(8), secret=bytes(16), generation=1, start_ns=self.now_ns, **bounds)
        self.keyring = ShownKeyring(*keys, licences=licences)
        self.stats = RequestStats(["ListKeys"])
        self.collector = UsherCollector(
            ledger=self.ledger,
            keyring=self.keyring,
            stats=self.stats,
            broker=FACTS,
            bounds=BOUNDS,
            is_emulating=True,
            is_draining=lambda: True,
            data_plane=None if counted is None else lambda: counted,
            durability=None if journaled is None else lambda: journaled,
            history=lambda: history,
        )
        self.registry: CollectorRegistry = build_registry(self.collector)

    def pool(self, product: str, seats: int, source: int, *, sharing: Sharing = Sharing.SESSION, is_emulated: bool = False) -> int:
        """A pool with one proven source; its number."""
        pool = self.ledger.declare_pool(product, PoolTerms(sharing=sharing), is_emulated)
        self.ledger.prove_source(self.now_ns, source, pool, seats, FAR_NS, FAR_NS)
        return pool

    def lose(self, source: int) -> None:
        """The key behind a source is pulled; its charges have their grace."""
        self.ledger.lose_source(self.now_ns, source, FAR_NS, EndReason.KEY_LOST)

    def open(self, user: str, *products: str, request: int = 0) -> bytes:
        """One Open; the session id, empty when it was denied. `request` sends an earlier one again."""
        if not request:
            self._request_count += 1
            request = self._request_count
        answer = self.ledger.open(
            self.now_ns,
            request_id=request.to_bytes(16),
            user=user.encode(),
            host=b"pc",
            products=[(product, False) for product in products],
        )
        return answer.session_id

    def close(self, session_id: bytes) -> None:
        """Closes a session."""
        self._request_count += 1
        self.ledger.close(self.now_ns, session_id, self._request_count.to_bytes(16))

    def value(self, name: str, **labels: str) -> float | None:
        """The sample with exactly these labels; None if there is none."""
        return self.registry.get_sample_value(name, labels)

    def families(self) -> Iterator[Metric]:
        """All families of a scrape."""
        yield from self.registry.collect()

    def series(self) -> Mapping[str, set[tuple[tuple[str, str], ...]]]:
        """Label sets of every sample name."""
        found: dict[str, set[tuple[tuple[str, str], ...]]] = {}
        for family in self.families():
            for sample in family.samples:
                found.setdefault(sample.name, set()).add(tuple(sorted(sample.labels.items())))
        return found


def lived_in() -> Bench:
    """A bench in which something of everything has happened, so that every family has samples."""
    lost = replace(SECURITY_KEY, thumbprint="absent-thumbprint-of-a-key", state=KeyState.LOST, seats={}, proof_latency_ns=None)
    bench = Bench(SECURITY_KEY, lost, licences=(LICENCE,), counted=COUNTED, journaled=JOURNALED, history=HISTORY)
    bench.pool("platform", 2, 0)
    bench.pool("crm", 5, 1, sharing=Sharing.USER, is_emulated=True)
    first = bench.open("ann", "platform", "crm")
    bench.open("bob", "platform")
    bench.open("cid", "platform")
    bench.close(first)
    bench.stats.observe("Sessions/Open", "granted", 0.0002)
    return bench


@dataclass(frozen=True, slots=True)
class Exposed:
    """What a broker exposes: labels of each sample by its name, and which of them only ever grow."""

    labels: Mapping[str, frozenset[str]]
    counters: frozenset[str]


@cache
def exposed() -> Exposed:
    """Of a bench in which something of everything has happened. `job` and `instance` are Prometheus's own."""
    families = list(lived_in().families())
    samples = [sample for family in families for sample in family.samples]
    labels = {
        name: frozenset({label for sample in samples if sample.name == name for label in sample.labels} | {"job", "instance"})
        for name in {sample.name for sample in samples}
    }
    growing = [family for family in families if family.type in ("counter", "histogram")]
    return Exposed(labels, frozenset(sample.name for family in growing for sample in family.samples))
