"""The metrics of the broker, as pure functions from what is read to families of samples.

Names and labels are a promise to dashboards and alerts: rename nothing, only add. Rules:
  * labels are bounded by what an admin configures (products, pools, keys, licences) or by closed sets of words
    (reasons, states, outcomes); never a user, a host, a session or an address;
  * a counter whose labels are known stands at zero from the first scrape on: rate() cannot see a counter that is
    born at one, and a sample that is missing must never look like a recovery;
  * base units (seconds, bytes), the unit last in the name.
A pool's samples carry product, pool (the broker's number of it) and emulated ("true" or "false").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from broker.model.views import Counters, PoolView, ProductView
from broker.model.words import DenialReason, EndReason
from broker.verbs.seams import BrokerFacts
from broker.verbs.stats import BUCKET_BOUNDS_SECONDS, Histogram
from broker.web.metric_sources import LedgerBounds

_POOL_LABELS = ("product", "pool", "emulated")

_POOL_GAUGES: tuple[tuple[str, str, Callable[[PoolView], int]], ...] = (
    ("usher_seats_capacity", "Seats that proven keys give now.", lambda pool: pool.capacity),
    ("usher_seats_in_use", "Seats charged, lingering ones included.", lambda pool: pool.in_use),
    ("usher_seats_in_use_peak", "The most seats charged at once since the start.", lambda pool: pool.in_use_peak),
    ("usher_seats_free", "Seats that a new session could take; 0 under a deficit.", lambda pool: free_seats(pool)),
    ("usher_seats_deficit", "Seats charged over the capacity that a loss left.", lambda pool: pool.deficit),
    ("usher_grace_seats", "Seats of lost keys that existing charges may keep for now.", lambda pool: pool.grace_seats),
    ("usher_pool_starting", "1 until all keys have been tried after the start.", lambda pool: int(pool.is_starting)),
    ("usher_charges", "Charges now; leases of one sharing group stand on one.", lambda pool: pool.charge_count),
    ("usher_charges_lingering", "Charges kept after their last lease.", lambda pool: pool.lingering_count),
    ("usher_charges_in_key_grace", "Charges that end with their key's grace.", lambda pool: pool.key_grace_count),
    ("usher_leases", "Leases that stand on the charges.", lambda pool: pool.lease_count),
)


def free_seats(pool: PoolView) -> int:
    """Seats that a new charge could take (semantics rules 6-7)."""
    return max(0, pool.capacity - pool.in_use)


def pool_families(pools: Sequence[PoolView]) -> Iterator[Metric]:
    """Seats, charges and leases of each pool, and its terms in words."""
    for name, documentation, value in _POOL_GAUGES:
        family = GaugeMetricFamily(name, documentation, labels=_POOL_LABELS)
        for pool in pools:
            family.add_metric(_pool_labels(pool), value(pool))
        yield family
    taken = CounterMetricFamily("usher_charges_taken", "Charges ever taken.", labels=_POOL_LABELS)
    for pool in pools:
        taken.add_metric(_pool_labels(pool), pool.charge_total)
    yield taken
    yield _pool_terms(pools)


def _pool_labels(pool: PoolView) -> tuple[str, str, str]:
    return (pool.product, str(pool.pool), _flag(pool.is_emulated))


def _pool_terms(pools: Sequence[PoolView]) -> Metric:
    family = InfoMetricFamily("usher_pool", "How the licences of a pool say its seats are counted.", labels=_POOL_LABELS)
    for pool in pools:
        family.add_metric(_pool_labels(pool), {"terms": pool.terms.in_words()})
    return family


def product_families(products: Sequence[ProductView]) -> Iterator[Metric]:
    """Denials and ends by reason, and leases started, of each product."""
    started = CounterMetricFamily("usher_leases_started", "Leases ever started.", labels=["product"])
    denials = CounterMetricFamily(
        "usher_denials", "Denials of a product, each counted when it was decided.", labels=["product", "reason"]
    )
    ends = CounterMetricFamily("usher_lease_ends", "Leases ended.", labels=["product", "reason"])
    for product in products:
        started.add_metric([product.product], product.lease_total)
        for reason, count in _by_reason(product.denial_totals, _DENIALS_OF_PRODUCT):
            denials.add_metric([product.product, reason], count)
        for reason, count in _by_reason(product.end_totals, _ENDS):
            ends.add_metric([product.product, reason], count)
    yield from (started, denials, ends)


# A product nobody has declared has no counters of its own: see usher_denied_requests_total.
_DENIALS_OF_PRODUCT = [reason for reason in DenialReason if reason not in (DenialReason.NONE, DenialReason.UNKNOWN_PRODUCT)]
_ENDS = [reason for reason in EndReason if reason is not EndReason.NONE]


def _by_reason(
    totals: Sequence[int], reasons: Iterable[DenialReason] | Iterable[EndReason]
) -> Iterator[tuple[str, int]]:
    """Every reason in words with its count: 0 too, and 0 for one that this ledger is too old to count."""
    for reason in reasons:
        yield reason.name.lower(), totals[reason] if reason < len(totals) else 0


_COUNTS: tuple[tuple[str, str, Callable[[Counters], float]], ...] = (
    ("usher_sessions_opened", "Sessions opened.", lambda now: now.opened_total),
    ("usher_renewals", "Renews that found their session.", lambda now: now.renewed_total),
    ("usher_acquisitions", "Acquires granted.", lambda now: now.acquired_total),
    ("usher_releases", "Releases answered.", lambda now: now.released_total),
    ("usher_replays", "Requests sent again and given their first answer.", lambda now: now.replayed_total),
    ("usher_denied_requests", "Requests denied, those for unknown products too.", lambda now: now.denied_total),
    ("usher_sessions_not_found", "Requests whose session was over or never was.", lambda now: now.not_found_total),
    ("usher_request_ids_reused", "Requests refused: their id was used with another body.", lambda now: now.reused_total),
    ("usher_invalid_requests", "Requests refused: a field broke its bounds.", lambda now: now.invalid_total),
    ("usher_overloads", "Requests refused: a bound of the ledger was reached.", lambda now: now.overloaded_total),
    ("usher_drained_requests", "Opens refused because the broker is being drained.", lambda now: now.drained_total),
    ("usher_unwritable_requests", "Requests refused because the log cannot be written (RENEW_ONLY).", lambda now: now.not_writable_total),
    ("usher_events_full", "Requests refused: the ring of events had no room.", lambda now: now.events_full_total),
    ("usher_events", "Events recorded.", lambda now: now.event_total),
    ("usher_events_dropped", "Events of a change of capacity for which the ring had no room.", lambda now: now.event_dropped_total),
    ("usher_stalls", "Times the ledger's clock advanced more than a second late.", lambda now: now.stall_total),
    ("usher_stall_seconds", "Time by which stalls moved all deadlines.", lambda now: now.stalled_ns / 1e9),
)


def session_families(now: Counters) -> Iterator[Metric]:
    """What the whole ledger has done since the start."""
    yield GaugeMetricFamily("usher_sessions", "Open sessions.", value=now.session_count)
    for name, documentation, value in _COUNTS:
        yield CounterMetricFamily(name, documentation, value=value(now))
    ended = CounterMetricFamily("usher_sessions_ended", "Sessions ended.", labels=["reason"])
    for reason, count in _by_reason(now.ended_totals, _ENDS):
        ended.add_metric([reason], count)
    yield ended


def bound_families(now: Counters, bounds: LedgerBounds, memory_size: int) -> Iterator[Metric]:
    """How full the ledger is, each number beside its bound (limits: `ext/limits.pxd`)."""
    used = GaugeMetricFamily("usher_ledger_records", "Records in use.", labels=["kind"])
    most = GaugeMetricFamily("usher_ledger_records_limit", "Records there is room for.", labels=["kind"])
    for kind, count, count_max in (
        ("sessions", now.session_count, bounds.sessions_max),
        ("leases", now.lease_count, bounds.leases_max),
        ("charges", now.charge_count, bounds.charges_max),
        ("requests", now.request_count, bounds.requests_max),
        ("denials", now.denial_count, bounds.denials_max),
    ):
        used.add_metric([kind], count)
        most.add_metric([kind], count_max)
    yield from (used, most)
    for name, documentation, value in (
        ("usher_ledger_text_bytes", "Texts of holders kept.", now.text_size),
        ("usher_ledger_text_limit_bytes", "Texts there is room for.", bounds.text_size_max),
        ("usher_events_backlog_bytes", "Events not yet drained from the ring.", now.event_size),
        ("usher_events_backlog_limit_bytes", "The size of the ring of events.", bounds.event_ring_size),
        ("usher_ledger_reserved_bytes", "Address space of the ledger; resident is what is used.", memory_size),
    ):
        yield GaugeMetricFamily(name, documentation, value=value)


def request_families(histograms: Mapping[tuple[str, str], Histogram]) -> Iterator[Metric]:
    """How many requests ended how, and how long they took.

    The counter has every outcome from the start; the histogram, twenty times as many series, only those that have occurred.
    """
    labels = ["method", "outcome"]
    requests = CounterMetricFamily("usher_requests", "Requests answered.", labels=labels)
    durations = HistogramMetricFamily(
        "usher_request_duration_seconds", "From a request read to its answer made.", labels=labels
    )
    bounds = [*map(floatToGoString, BUCKET_BOUNDS_SECONDS), "+Inf"]
    for pair, histogram in sorted(histograms.items()):
        requests.add_metric(pair, histogram.count)
        if histogram.count:
            buckets = list(zip(bounds, map(float, accumulate(histogram.bucket_counts)), strict=True))
            durations.add_metric(pair, buckets, histogram.sum_seconds)
    yield from (requests, durations)


def broker_families(broker: BrokerFacts, *, is_emulating: bool, is_draining: bool) -> Iterator[Metric]:
    """Which broker this is, how it is set up, and since when it runs."""
    yield InfoMetricFamily("usher_build", "The program.", value={"version": broker.version})
    yield InfoMetricFamily(
        "usher_broker",
        "How this broker is set up.",
        value={
            "broker_id": broker.broker_id.hex(),
            "data_plane": broker.data_plane,
            "durability": broker.durability,
            "emulation": _flag(is_emulating),
        },
    )
    start_s = broker.start_unix_ns / 1e9
    yield GaugeMetricFamily("usher_start_time_seconds", "When this run began, Unix time.", value=start_s)
    yield GaugeMetricFamily("usher_generation", "How often the data directory was started.", value=broker.generation)
    yield GaugeMetricFamily("usher_draining", "1 while new sessions are refused.", value=int(is_draining))


def _flag(is_so: bool) -> str:
    return "true" if is_so else "false"
