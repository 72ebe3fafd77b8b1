"""The verbs of an admin: see what the broker holds, and step in.

One method for each rpc of Admin, named as it in lower case; messages in, messages out, VerbError for real errors. Whoever serves
them checks first that the caller may administer. All methods run on the event loop's thread, except those in
`SLOW_METHODS`: they may wait for a disk or a lock, so they run in a worker thread, one at a time.

Not served here: explanations of denials (they need the rules).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker.model.durability import DurabilityView
from broker.model.views import SessionView
from broker.model.words import EndReason, LeaseState
from broker.v1 import admin_pb2
from broker.verbs import bounds
from broker.verbs.admin_messages import (
    emulated_key_message,
    event_message,
    journal_message,
    key_message,
    licence_message,
    product_messages,
    usage_message,
)
from broker.verbs.drain import DrainSwitch
from broker.verbs.errors import VerbError, invalid_field, not_served_here
from broker.verbs.events import EventBlock, EventPump, EventWatch
from broker.verbs.messages import duration, session_message, timestamp
from broker.verbs.names import Names
from broker.verbs.public_id import fence_of
from broker.verbs.seams import (
    BrokerFacts,
    Clock,
    Emulation,
    KeyringView,
    LedgerFace,
    NoHistory,
    Reload,
    ReloadError,
    UsageReport,
)
from broker.verbs.sentences import not_found_sentence
from broker.verbs.settings import SessionSettings

_log = logging.getLogger(__name__)

ADMIN_METHODS = tuple(method.name for method in admin_pb2.DESCRIPTOR.services_by_name["Admin"].methods)
"""Names of all rpcs of Admin, for the statistics."""

INSTANT_MAX_NS = 2**62
"""Later than all that was."""

SLOW_METHODS = frozenset(("Reload", "SetKeyEnabled", "ListEmulatedKeys", "SetEmulatedKeyPlugged", "GetUsageReport"))


class AdminVerbs:
    """The Admin service without its transport. `emulation` None: emulated keys are not served. `usage` None: there is no history."""

    def __init__(
        self,
        *,
        ledger: LedgerFace,
        clock_ns: Clock,
        settings: SessionSettings,
        keyring: KeyringView,
        pump: EventPump,
        broker: BrokerFacts,
        drain: DrainSwitch,
        emulation: Emulation | None,
        reload: Reload,
        durability: Callable[[], DurabilityView] | None = None,
        usage: UsageReport | None = None,
    ) -> None:
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._settings = settings
        self._keyring = keyring
        self._pump = pump
        self._broker = broker
        self._drain = drain
        self._emulation = emulation
        self._reload = reload
        self._durability = durability
        self._usage = usage
        self._names = Names(ledger)

    # --- what there is --------------------------------------------------------------------------------

    def get_broker(self, _request: admin_pb2.GetBrokerRequest) -> admin_pb2.GetBrokerResponse:
        """The broker itself."""
        facts = self._broker
        kept = self._durability() if self._durability is not None else None
        return admin_pb2.GetBrokerResponse(
            version=facts.version,
            broker_id=facts.broker_id.hex(),
            generation=facts.generation,
            start_time=timestamp(facts.start_unix_ns),
            session_count=self._ledger.counters().session_count,
            draining=self._drain.is_draining,
            data_plane=facts.data_plane,
            durability=facts.durability,
            emulation=self._emulation is not None,
            ttl=duration(self._settings.ttl_ns),
            renew_grace=duration(self._settings.renew_grace_ns),
            journal=journal_message(kept) if kept is not None and kept.mode != "none" else None,
            clock_suspect=self._keyring.views().is_clock_suspect,
        )

    def list_products(self, _request: admin_pb2.ListProductsRequest) -> admin_pb2.ListProductsResponse:
        """Products, pools and numbers."""
        return admin_pb2.ListProductsResponse(
            products=product_messages(self._ledger.products(), self._ledger.pools())
        )

    def list_keys(self, _request: admin_pb2.ListKeysRequest) -> admin_pb2.ListKeysResponse:
        """Security keys."""
        return admin_pb2.ListKeysResponse(keys=[key_message(one) for one in self._keyring.views().keys])

    def list_licences(self, _request: admin_pb2.ListLicencesRequest) -> admin_pb2.ListLicencesResponse:
        """Licences, the refused ones among them."""
        licences = self._keyring.views().licences
        return admin_pb2.ListLicencesResponse(licences=[licence_message(one) for one in licences])

    def list_sessions(self, request: admin_pb2.ListSessionsRequest) -> admin_pb2.ListSessionsResponse:
        """One page of sessions. With a filter a page may be short, or even empty, before the last one."""
        page_size = _page_size(request.page_size)
        cursor = _cursor(request.page_token)
        found: list[SessionView] = []
        for _ in range(bounds.SCANS_PER_PAGE_MAX):
            sessions, cursor = self._ledger.sessions(self._clock_ns(), cursor, page_size - len(found))
            found += [session for session in sessions if _is_wanted(session, request)]
            if cursor == 0 or len(found) == page_size:
                break
        return admin_pb2.ListSessionsResponse(
            sessions=[session_message(session) for session in found],
            next_page_token=str(cursor) if cursor else "",
        )

    def list_waiters(self, _request: admin_pb2.ListWaitersRequest) -> admin_pb2.ListWaitersResponse:
        """Nobody waits: this broker keeps no waitlist."""
        return admin_pb2.ListWaitersResponse()

    def watch_events(self, request: admin_pb2.WatchEventsRequest) -> EventWatch:
        """A cursor into the events; `event_response` makes its blocks into messages. Close it when the stream ends."""
        if request.after_sequence < 0:
            raise invalid_field("after_sequence", "The sequence must be one that the broker gave, or 0.")
        return self._pump.watch(request.after_sequence)

    def event_response(self, block: EventBlock) -> admin_pb2.WatchEventsResponse:
        """One message of WatchEvents."""
        return admin_pb2.WatchEventsResponse(
            events=[event_message(timed, self._names) for timed in block.events], missed_count=block.missed_count
        )

    # --- stepping in ------------------------------------------------------------------------------------

    def revoke_session(self, request: admin_pb2.RevokeSessionRequest) -> admin_pb2.RevokeSessionResponse:
        """Ends a session at once."""
        if len(request.reason.encode()) > bounds.REVOKE_REASON_SIZE_MAX:
            raise invalid_field("reason", "The reason has at most 256 bytes.")
        fence = fence_of(request.public_id)
        if fence is None:
            raise invalid_field("public_id", 'A public id looks like "3.1042"; `usher sessions` lists them.')
        if self._revoke(fence):
            _log.info("session %s revoked by an admin: %r", request.public_id, request.reason)
            return admin_pb2.RevokeSessionResponse()
        if self._ledger.find_session(self._clock_ns(), fence) is not None:
            raise VerbError(
                "UNAVAILABLE", "EVENTS_FULL", "The broker is behind with recording its events; nothing was changed, try again."
            )
        sentence = not_found_sentence(request.public_id, self._ledger.end_reason(self._clock_ns(), fence))
        raise VerbError("NOT_FOUND", "SESSION_NOT_FOUND", sentence.partition(";")[0] + ".")

    def _revoke(self, fence: int) -> bool:
        """Whether there was such a session. Asked again after a drain: the event ring may have had no room for its end."""
        if self._ledger.revoke(self._clock_ns(), fence, EndReason.REVOKED):
            return True
        self._pump.pump()
        return self._ledger.revoke(self._clock_ns(), fence, EndReason.REVOKED)

    def set_key_enabled(self, request: admin_pb2.SetKeyEnabledRequest) -> admin_pb2.SetKeyEnabledResponse:
        """Stops or resumes counting a key."""
        if not self._keyring.set_enabled(request.thumbprint, request.enabled):
            raise VerbError("NOT_FOUND", "KEY_NOT_FOUND", "No key with this thumbprint is known; `usher keys` lists them.")
        _log.info("key %s %s by an admin", request.thumbprint, "enabled" if request.enabled else "disabled")
        return admin_pb2.SetKeyEnabledResponse()

    def reload(self, request: admin_pb2.ReloadRequest) -> admin_pb2.ReloadResponse:
        """Reads the licences again."""
        if request.dry_run:
            raise not_served_here("A dry run of a reload")
        try:
            return admin_pb2.ReloadResponse(changes=self._reload())
        except ReloadError as error:
            raise VerbError("FAILED_PRECONDITION", "RELOAD_FAILED", str(error)) from error

    def drain(self, request: admin_pb2.DrainRequest) -> admin_pb2.DrainResponse:
        """Starts or stops draining."""
        self._drain.set(request.draining)
        _log.info("draining %s by an admin", "started" if request.draining else "stopped")
        return admin_pb2.DrainResponse(session_count=self._ledger.counters().session_count)

    def list_emulated_keys(
        self, _request: admin_pb2.ListEmulatedKeysRequest
    ) -> admin_pb2.ListEmulatedKeysResponse:
        """The emulated fleet."""
        fleet = self._fleet().emulated_keys()
        return admin_pb2.ListEmulatedKeysResponse(keys=[emulated_key_message(one) for one in fleet])

    def set_emulated_key_plugged(
        self, request: admin_pb2.SetEmulatedKeyPluggedRequest
    ) -> admin_pb2.SetEmulatedKeyPluggedResponse:
        """Plugs an emulated key in or pulls it."""
        try:
            plugged = self._fleet().set_plugged(request.name, request.plugged)
        except LookupError as error:
            raise VerbError(
                "NOT_FOUND", "EMULATED_KEY_NOT_FOUND", "No emulated key has this name; `usher emulate list` lists them."
            ) from error
        return admin_pb2.SetEmulatedKeyPluggedResponse(key=emulated_key_message(plugged))

    def get_usage_report(self, request: admin_pb2.GetUsageReportRequest) -> admin_pb2.GetUsageReportResponse:
        """The use of each product over a span, from the history, which is some seconds behind. Without an end: until now."""
        if self._usage is None:
            raise not_served_here("A usage report")
        until_ns = request.until_time.ToNanoseconds() if request.HasField("until_time") else INSTANT_MAX_NS
        since_ns = request.from_time.ToNanoseconds()
        if not 0 <= since_ns < until_ns:
            raise invalid_field("from_time", "It must not be before 1970, and be before until_time.")
        try:
            found = self._usage(since_ns, until_ns)
        except NoHistory as error:
            raise VerbError("UNAVAILABLE", "NO_HISTORY", f"The history cannot be read now: {error}") from error
        return admin_pb2.GetUsageReportResponse(products=[usage_message(one) for one in found])

    # --- what comes later -------------------------------------------------------------------------------

    def explain_denial(self, _request: admin_pb2.ExplainDenialRequest) -> admin_pb2.ExplainDenialResponse:
        """Not served; a denial explains itself with its reason, numbers and sentence."""
        raise not_served_here("Explaining a denial beforehand")

    def _fleet(self) -> Emulation:
        if self._emulation is None:
            raise VerbError(
                "UNIMPLEMENTED", "NOT_SERVED_HERE", "This broker emulates no keys; start it with emulation switched on."
            )
        return self._emulation


def _page_size(page_size: int) -> int:
    if page_size < 0:
        raise invalid_field("page_size", "A page has 1 to 256 sessions; 0 means 100.")
    return min(page_size or bounds.PAGE_SIZE_DEFAULT, bounds.PAGE_SIZE_MAX)


def _cursor(page_token: str) -> int:
    if not page_token:
        return 0
    is_number = page_token.isascii() and page_token.isdigit() and len(page_token) <= 18
    if not is_number or int(page_token) > bounds.CURSOR_MAX:
        raise invalid_field("page_token", "The page token must be one that the broker gave.")
    return int(page_token)


def _is_wanted(session: SessionView, request: admin_pb2.ListSessionsRequest) -> bool:
    if request.user and session.user != request.user.encode():
        return False
    if not request.product:
        return True
    return any(lease.product == request.product and lease.state is not LeaseState.ENDED for lease in session.leases)
