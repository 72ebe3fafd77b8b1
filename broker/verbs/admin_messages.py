"""What an admin sees, as messages: products with their pools, keys, licences, events. Pure conversion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.keyring import KeyView, LicenceState, LicenceView
from broker.model.durability import DurabilityView
from broker.model.events import Event
from broker.model.views import PoolView, ProductView
from broker.model.words import DenialReason, EndReason, EventKind
from broker.v1 import admin_pb2, types_pb2
from broker.verbs.events import TimedEvent
from broker.verbs.messages import duration, timestamp
from broker.verbs.names import Names
from broker.verbs.public_id import public_id_of
from broker.verbs.seams import EmulatedKeyView, ProductUse
from broker.verbs.sentences import event_sentence

_LICENCE_STATES = {
    LicenceState.COUNTING: admin_pb2.LICENCE_STATE_COUNTING,
    LicenceState.KEY_ABSENT: admin_pb2.LICENCE_STATE_KEY_ABSENT,
    LicenceState.NOT_YET_VALID: admin_pb2.LICENCE_STATE_NOT_YET_VALID,
    LicenceState.EXPIRED: admin_pb2.LICENCE_STATE_EXPIRED,
    LicenceState.REFUSED: admin_pb2.LICENCE_STATE_REFUSED,
    LicenceState.SET_ASIDE: admin_pb2.LICENCE_STATE_SET_ASIDE,
}


def product_messages(products: Iterable[ProductView], pools: Sequence[PoolView]) -> list[admin_pb2.Product]:
    """All products by id, each with its pools and their sums."""
    by_id = sorted(products, key=lambda view: view.product)
    return [_product_message(view, [pool for pool in pools if pool.product == view.product]) for view in by_id]


def _product_message(product: ProductView, pools: Sequence[PoolView]) -> admin_pb2.Product:
    # The peak of a product with several pools is the sum of theirs: never too low, and exact with one pool.
    counting = [pool for pool in pools if pool.capacity] or pools
    return admin_pb2.Product(
        product=product.product,
        capacity=sum(pool.capacity for pool in pools),
        in_use=sum(pool.in_use for pool in pools),
        free=sum(max(0, pool.capacity - pool.in_use) for pool in pools),
        deficit=sum(pool.deficit for pool in pools),
        in_use_peak=sum(pool.in_use_peak for pool in pools),
        lease_count=sum(pool.lease_count for pool in pools),
        denial_count=sum(product.denial_totals),
        emulated=bool(counting) and all(pool.is_emulated for pool in counting),
        pools=[_pool_message(pool) for pool in pools],
    )


def _pool_message(pool: PoolView) -> admin_pb2.Pool:
    return admin_pb2.Pool(
        pool=pool.pool,
        terms=pool.terms.in_words(),
        capacity=pool.capacity,
        in_use=pool.in_use,
        deficit=pool.deficit,
        charge_count=pool.charge_count,
        lingering_count=pool.lingering_count,
        key_grace_count=pool.key_grace_count,
        lease_count=pool.lease_count,
        in_use_peak=pool.in_use_peak,
        starting=pool.is_starting,
        emulated=pool.is_emulated,
        grace_seats=pool.grace_seats,
    )


def journal_message(now: DurabilityView) -> admin_pb2.Journal:
    """The journal as an admin sees it."""
    log, snapshot, recovery = now.counters, now.snapshot, now.recovery
    return admin_pb2.Journal(
        status=now.status,
        recovered_sessions=recovery.sessions,
        recovery_time=duration(recovery.duration_ns),
        last_run_clean=recovery.was_clean,
        warnings=recovery.notes,
        log_size=log.log_size if log else 0,
        log_size_max=now.log_size_max,
        snapshot_time=timestamp(snapshot.unix_ns) if snapshot.unix_ns else None,
        snapshot_behind_size=snapshot.behind_size,
        position=log.committed if log else 0,
    )


def key_message(key_view: KeyView) -> admin_pb2.SecurityKey:
    """One security key."""
    message = admin_pb2.SecurityKey(
        thumbprint=key_view.thumbprint,
        state=admin_pb2.KeyState.Value(f"KEY_STATE_{key_view.state.name}"),
        reason=key_view.sentence,
        description=key_view.description,
        address=key_view.address,
        emulated=key_view.is_emulated,
        seats=key_view.seats,
        proof_count=key_view.proof_count,
        proof_failure_count=key_view.proof_failure_count,
        grace_left=duration(max(0, key_view.grace_left_ns)),
    )
    if key_view.last_proof_age_ns is not None:
        message.last_proof_age.CopyFrom(duration(max(0, key_view.last_proof_age_ns)))
    if key_view.proof_latency_ns is not None:
        message.proof_latency.CopyFrom(duration(max(0, key_view.proof_latency_ns)))
    return message


def licence_message(licence: LicenceView) -> admin_pb2.Licence:
    """One licence, or a file that is none."""
    message = admin_pb2.Licence(
        licence_id=licence.licence_id,
        vendor=licence.vendor,
        product=licence.product,
        seats=licence.seats,
        state=_LICENCE_STATES[licence.state],
        reason=licence.sentence,
        thumbprint=licence.thumbprint,
        source=licence.file,
        emulated=licence.is_test,
        terms=licence.terms,
    )
    if licence.not_before_unix_s:
        message.not_before.CopyFrom(timestamp(licence.not_before_unix_s * 10**9))
    if licence.expires_unix_s is not None:
        message.expiry.CopyFrom(timestamp(licence.expires_unix_s * 10**9))
    return message


def event_message(timed: TimedEvent, names: Names) -> admin_pb2.Event:
    """One event of the ledger. Events without a pool or product leave these unset."""
    event = timed.event
    session, product = public_id_of(event.fence), names.product(event.product)
    message = admin_pb2.Event(
        sequence=event.sequence,
        time=timestamp(timed.unix_ns),
        kind=admin_pb2.EventKind.ValueType(event.kind),
        session=session,
        product=product,
        message=event_sentence(event, session, product),
        pool=max(0, event.pool),
        seats=event.seats,
        deficit=event.deficit,
    )
    _set_reason(message, event)
    return message


def _set_reason(message: admin_pb2.Event, event: Event) -> None:
    if event.kind is EventKind.DENIED:
        message.denial_reason = types_pb2.DenialReason.ValueType(DenialReason(event.reason))
    else:
        message.end_reason = types_pb2.EndReason.ValueType(EndReason(event.reason))


def emulated_key_message(key_view: EmulatedKeyView) -> admin_pb2.EmulatedKey:
    """One key of the emulated fleet."""
    return admin_pb2.EmulatedKey(
        name=key_view.name,
        profile=key_view.profile,
        plugged=key_view.is_plugged,
        thumbprint=key_view.thumbprint,
    )


def usage_message(use: ProductUse) -> admin_pb2.ProductUsage:
    """One product of a usage report."""
    return admin_pb2.ProductUsage(
        product=use.product, in_use_peak=use.seats_peak, in_use_mean=use.seats_mean, denial_count=use.denial_count
    )
