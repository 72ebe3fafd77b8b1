"""The metrics of security keys and licences, as pure functions from the keyring's views to families of samples.

A key is named by the first 12 characters of its thumbprint, and that alone: what it calls itself is in
usher_key_info, so that a key which is absent at first and known by its description later keeps its series, and
an alert on it does not begin anew. Two views of one identity (a clone, semantics rule 31) make one sample: the worse
state, all proofs. A key that has not yet said who it is counts in usher_keys only. The rules of `metric_families.py`
hold here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from broker.keyring import KeyringViews, KeyState, KeyView, LicenceState, LicenceView
from broker.keyring.states import COUNTING_STATES

THUMBPRINT_LENGTH = 12


def keyring_families(views: KeyringViews) -> Iterator[Metric]:
    """The keyring as a whole, its keys and its licences."""
    for name, documentation, value in (
        ("usher_keyring_starting", "1 until all keys have been tried after the start.", views.is_starting),
        ("usher_keyring_faults", "What is wrong with the keyring itself, such as USB out of reach.", len(views.faults)),
        ("usher_clock_suspect", "1 while the wall clock is not believed: it stepped back.", views.is_clock_suspect),
    ):
        yield GaugeMetricFamily(name, documentation, value=int(value))
    yield from key_families(views.keys)
    yield from licence_families(views.licences)


def key_families(keys: Sequence[KeyView]) -> Iterator[Metric]:
    """How many keys stand where, and each known key's presence, seats and proofs."""
    yield _keys_by_state(keys)
    by_name = _by_name(keys)
    yield from _standing(by_name)
    yield from _proofs(by_name)


def _keys_by_state(keys: Sequence[KeyView]) -> Metric:
    family = GaugeMetricFamily("usher_keys", "Security keys by state, known from licences or plugged in.", labels=["state"])
    counts = Counter(hwkey.state for hwkey in keys)
    for state in KeyState:
        family.add_metric([state.value], counts[state])
    return family


def _by_name(keys: Sequence[KeyView]) -> dict[str, list[KeyView]]:
    """Keys by shortened thumbprint, in a steady order; the view that does not count comes last and wins."""
    named: dict[str, list[KeyView]] = {}
    for hwkey in sorted(keys, key=lambda one: (one.thumbprint, one.state not in COUNTING_STATES)):
        if hwkey.thumbprint:
            named.setdefault(hwkey.thumbprint[:THUMBPRINT_LENGTH], []).append(hwkey)
    return named


def _standing(by_name: Mapping[str, Sequence[KeyView]]) -> Iterator[Metric]:
    present = GaugeMetricFamily("usher_key_present", "1 while the key's seats count, else 0.", labels=["thumbprint"])
    state = GaugeMetricFamily("usher_key_state", "1 for the state that the key is in, 0 for all others.", labels=["thumbprint", "state"])
    info = InfoMetricFamily("usher_key", "How the key describes itself.", labels=["thumbprint"])
    seats = GaugeMetricFamily("usher_key_seats", "Seats that the key gives now.", labels=["thumbprint", "product"])
    for name, views in by_name.items():
        hwkey = views[-1]
        present.add_metric([name], int(hwkey.state in COUNTING_STATES))
        for word in KeyState:
            state.add_metric([name, word.value], int(hwkey.state is word))
        info.add_metric([name], {"description": hwkey.description, "emulated": "true" if hwkey.is_emulated else "false"})
        for product, count in sorted(hwkey.seats.items()):
            seats.add_metric([name, product], count)
    yield from (present, state, info, seats)


def _proofs(by_name: Mapping[str, Sequence[KeyView]]) -> Iterator[Metric]:
    proofs = CounterMetricFamily("usher_key_proofs", "Proofs asked of the key.", labels=["thumbprint", "outcome"])
    latency = GaugeMetricFamily("usher_key_proof_latency_seconds", "How long the last good proof took.", labels=["thumbprint"])
    age = GaugeMetricFamily("usher_key_last_proof_age_seconds", "Since the last good proof.", labels=["thumbprint"])
    grace = GaugeMetricFamily("usher_key_grace_left_seconds", "What is left of the key's grace.", labels=["thumbprint"])
    for name, views in by_name.items():
        hwkey = views[-1]
        proofs.add_metric([name, "ok"], sum(view.proof_count for view in views))
        proofs.add_metric([name, "failed"], sum(view.proof_failure_count for view in views))
        grace.add_metric([name], hwkey.grace_left_ns / 1e9)
        if hwkey.proof_latency_ns is not None:
            latency.add_metric([name], hwkey.proof_latency_ns / 1e9)
        if hwkey.last_proof_age_ns is not None:
            age.add_metric([name], hwkey.last_proof_age_ns / 1e9)
    yield from (proofs, latency, age, grace)


def licence_families(licences: Sequence[LicenceView]) -> Iterator[Metric]:
    """How many licences stand where; the seats and the end of each that could be read."""
    states = GaugeMetricFamily("usher_licences", "Licences by state, files that are none included.", labels=["state"])
    counts = Counter(licence.state for licence in licences)
    for state in LicenceState:
        states.add_metric([state.value], counts[state])
    labels = ["licence", "product"]
    seats = GaugeMetricFamily("usher_licence_seats", "Seats that the licence is for.", labels=labels)
    expiry = GaugeMetricFamily("usher_licence_expiry_timestamp_seconds", "When the licence ends, Unix time.", labels=labels)
    # A refused document says what it likes: its texts are not fit for labels.
    readable = {licence.licence_id: licence for licence in licences if licence.state is not LicenceState.REFUSED and licence.licence_id}
    for licence_id, licence in sorted(readable.items()):
        seats.add_metric([licence_id, licence.product], licence.seats)
        if licence.expires_unix_s is not None:
            expiry.add_metric([licence_id, licence.product], licence.expires_unix_s)
    yield from (states, seats, expiry)
