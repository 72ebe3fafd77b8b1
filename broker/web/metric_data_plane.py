"""The metrics of the native data plane, as pure functions from its listener's counters to families of samples.

Requests are not a family of their own: a request is a request, whoever served it, so the listener's calls are added to the
histograms that the control plane keeps. With grpcio on the client port these families are absent. The rules of
`metric_families.py` hold here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from broker.model.listener import CallCounts, ListenerCounters
from broker.model.tls import TlsError
from broker.verbs.stats import Histogram

_PREFIX = "usher_data_plane_"
_Reading = Callable[[ListenerCounters], int]

_NOW: tuple[tuple[str, str, _Reading], ...] = (
    ("connections", "Connections of client apps, open now.", lambda now: now.connections),
    ("keep_alive_streams", "KeepAlive streams open now.", lambda now: now.keep_alive_streams),
    ("watched_sessions", "Sessions whose notices go to a KeepAlive stream.", lambda now: now.watched_sessions),
    ("held_answers", "Answers that wait until their events are committed.", lambda now: now.held_answers),
    ("held_bytes", "Memory of answers that wait until their events are committed.", lambda now: now.held_size),
)
_TOTALS: tuple[tuple[str, str, _Reading], ...] = (
    ("connections_accepted", "Connections taken.", lambda now: now.connections_accepted),
    ("connections_closed", "Connections ended, by whichever side.", lambda now: now.connections_closed),
    ("calls", "Calls begun, of any method.", lambda now: now.streams),
    ("calls_refused", "Calls refused before they began: more at once than a connection may have.", lambda now: now.streams_refused),
    ("messages_received", "gRPC messages read.", lambda now: now.messages_received),
    ("messages_sent", "gRPC messages written.", lambda now: now.messages_sent),
    ("received_bytes", "Read from sockets, TLS included.", lambda now: now.bytes_received),
    ("sent_bytes", "Written to sockets, TLS included.", lambda now: now.bytes_sent),
    ("goaways_sent", "Peers that were asked to go: idle, misbehaving, or the broker stops.", lambda now: now.goaways_sent),
    ("goaways_received", "Peers that said they would go.", lambda now: now.goaways_received),
    ("tls_handshakes", "TLS handshakes completed.", lambda now: now.tls_handshakes),
    ("batches", "Times the ledger was called with commands.", lambda now: now.batches),
    ("commands", "Commands in these batches.", lambda now: now.batched_commands),
    ("notices", "Notices sent down KeepAlive streams.", lambda now: now.notices),
    ("held_full", "Times the bound of held answers was reached: the disk is slower than the requests.", lambda now: now.held_full_count),
    ("rounds", "Rounds of the loops: sleeps ended by something to do.", lambda now: now.rounds),
)


def data_plane_families(now: ListenerCounters) -> Iterator[Metric]:
    """Connections, calls, bytes, refusals and batches of the listener, over its loops."""
    for name, documentation, value in _NOW:
        yield GaugeMetricFamily(_PREFIX + name, documentation, value=value(now))
    for name, documentation, value in _TOTALS:
        yield CounterMetricFamily(_PREFIX + name, documentation, value=value(now))
    yield _by_word("tls_failures", "TLS connections that failed, by kind.", "kind", _tls_failures(now))
    yield _by_word("refusals", "Connections ended or not taken, and calls cut, by the bound that was broken.", "bound", now.refused)


def with_native_calls(
    histograms: Mapping[tuple[str, str], Histogram], calls: Mapping[tuple[str, str], CallCounts]
) -> dict[tuple[str, str], Histogram]:
    """The histograms of all requests: those that Python served, and those of the listener."""
    summed = dict(histograms)
    for pair, native in calls.items():
        summed[pair] = _sum(histograms.get(pair), native)
    return summed


def _sum(ours: Histogram | None, native: CallCounts) -> Histogram:
    sum_seconds = native.sum_ns / 1e9
    if ours is None:
        return Histogram(native.bucket_counts, sum_seconds)
    counts = zip(ours.bucket_counts, native.bucket_counts, strict=True)
    return Histogram(tuple(one + other for one, other in counts), ours.sum_seconds + sum_seconds)


def _tls_failures(now: ListenerCounters) -> dict[str, int]:
    """Every kind, those that never came with zero."""
    return {kind.name.lower(): 0 for kind in TlsError} | dict(now.tls_failures)


def _by_word(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, documentation, labels=[label])
    for word, count in sorted(counts.items()):
        family.add_metric([word], count)
    return family
