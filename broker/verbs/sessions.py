"""The verbs of a client app: open, renew, acquire, release, close, over one ledger.

Each takes a request message and gives its answer message, or raises VerbError; a denial is an answer. Plain functions of a few
microseconds, on the event loop's thread. Which status and reason stands for which answer of the ledger is the
table of the head comment of proto/broker/v1/sessions.proto.

While the broker drains, an Open that was not seen before is refused and everything else goes on. This broker keeps no waitlist: an Open that would wait
is denied, typed, before the ledger sees it, and so is not remembered.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.model.answers import Answer, DenialView
from broker.model.words import Bound, DenialReason, EndReason, Status
from broker.v1 import sessions_pb2, types_pb2
from broker.verbs import requests
from broker.verbs.drain import DrainSwitch
from broker.verbs.errors import VerbError
from broker.verbs.events import EventPump
from broker.verbs.keep_alive import KeepAliveStream, Renewed
from broker.verbs.messages import (
    denial_message,
    duration,
    grant_message,
    lease_messages,
    session_ended_message,
)
from broker.verbs.notices import NoticeBoard
from broker.verbs.public_id import public_id_of
from broker.verbs.seams import Clock, LedgerFace
from broker.verbs.sentences import NOT_WRITABLE_SENTENCE, not_found_sentence, overloaded_sentence
from broker.verbs.settings import SessionSettings, renew_after_ns


class SessionVerbs:
    """The Sessions service without its transport."""

    def __init__(
        self,
        *,
        ledger: LedgerFace,
        clock_ns: Clock,
        settings: SessionSettings,
        pump: EventPump,
        notices: NoticeBoard,
        drain: DrainSwitch,
    ) -> None:
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._settings = settings
        self._pump = pump
        self._notices = notices
        self._drain = drain

    def open(self, request: sessions_pb2.OpenRequest, identity: str) -> sessions_pb2.OpenResponse:
        """Opens a session. `identity` is who the connection is authenticated as; empty if it is not."""
        requests.check_open(request)
        if requests.duration_ns(request.wait_limit, "wait_limit"):
            return sessions_pb2.OpenResponse(denial=self._waiting_unsupported(request))
        answer = self._with_room(lambda: self._ask_to_open(request, identity))
        match answer.status:
            case Status.GRANTED:
                return sessions_pb2.OpenResponse(grant=grant_message(answer, self._settings))
            case Status.DENIED:
                return sessions_pb2.OpenResponse(denial=_denial_of(answer))
            case Status.ENDED:
                return sessions_pb2.OpenResponse(ended=session_ended_message(answer.fence, answer.end_reason))
        raise self._error(answer)

    def open_waiting(self, request: sessions_pb2.OpenWaitingRequest) -> sessions_pb2.OpenWaitingResponse:
        """The only message of an OpenWaiting: this broker keeps no waitlist."""
        requests.check_open(request.open)
        return sessions_pb2.OpenWaitingResponse(denial=self._waiting_unsupported(request.open))

    def renew(self, request: sessions_pb2.RenewRequest) -> sessions_pb2.RenewResponse:
        """Keeps a session for another ttl."""
        requests.check_session_id(request.session_id)
        requests.check_change_version(request.change_version)
        renewed = self.try_renew(request)
        if renewed.response is None:
            raise _not_found(renewed.fence, renewed.end_reason)
        return renewed.response

    def try_renew(self, request: sessions_pb2.RenewRequest) -> Renewed:
        """Renews a session whose request has been checked; no response if it is not open. VerbError if that cannot be said yet,
        because its end has to wait for room in the event ring."""
        answer = self._with_room(lambda: self._ledger.renew(self._clock_ns(), request.session_id, request.change_version))
        if answer.status is Status.NOT_FOUND:
            return Renewed(self._ledger.session_fence(request.session_id), None, answer.end_reason)
        if answer.status is not Status.RENEWED:
            raise self._error(answer, request.session_id)
        response = sessions_pb2.RenewResponse(
            ttl=duration(answer.ttl_ns),
            renew_after=duration(renew_after_ns(answer.ttl_ns, answer.fence)),
            change_version=answer.change_version,
            changed=lease_messages(answer.leases),
        )
        return Renewed(answer.fence, response)

    def keep_alive_stream(self) -> KeepAliveStream:
        """The verbs of one KeepAlive stream. Close it when the stream ends; that ends no session."""
        return KeepAliveStream(renew=self.try_renew, notices=self._notices)

    def acquire(self, request: sessions_pb2.AcquireRequest) -> sessions_pb2.AcquireResponse:
        """Adds products to a session."""
        requests.check_acquire(request)
        answer = self._with_room(
            lambda: self._ledger.acquire(
                self._clock_ns(),
                request.session_id,
                request.request_id,
                requests.product_pairs(request.products),
                requests.acquire_salt(request),
            )
        )
        match answer.status:
            case Status.ACQUIRED:
                return sessions_pb2.AcquireResponse(acquired=_acquired(answer))
            case Status.DENIED:
                return sessions_pb2.AcquireResponse(denial=_denial_of(answer))
        raise self._error(answer, request.session_id)

    def release(self, request: sessions_pb2.ReleaseRequest) -> sessions_pb2.ReleaseResponse:
        """Gives one product back."""
        requests.check_session_id(request.session_id)
        requests.check_request_id(request.request_id)
        requests.check_product(request.product)
        answer = self._with_room(
            lambda: self._ledger.release(self._clock_ns(), request.session_id, request.request_id, request.product)
        )
        match answer.status:
            case Status.RELEASED:
                return sessions_pb2.ReleaseResponse(released=_released(answer))
            case Status.DENIED:
                return sessions_pb2.ReleaseResponse(denial=_denial_of(answer))
        raise self._error(answer, request.session_id)

    def close(self, request: sessions_pb2.CloseRequest) -> sessions_pb2.CloseResponse:
        """Ends a session."""
        requests.check_session_id(request.session_id)
        requests.check_request_id(request.request_id)
        answer = self._with_room(
            lambda: self._ledger.close(self._clock_ns(), request.session_id, request.request_id)
        )
        if answer.status is Status.CLOSED:
            reason = types_pb2.EndReason.ValueType(answer.end_reason)
            return sessions_pb2.CloseResponse(end_reason=reason, replayed=answer.is_replayed)
        raise self._error(answer, request.session_id)

    def _with_room(self, ask: Callable[[], Answer]) -> Answer:
        """The ledger's answer; once more after a drain if its event ring was full: the one who drains it is this very thread,
        and a mass expiry can fill it between two turns of the pump. EVENTS_FULL changed nothing, so it may be asked again."""
        answer = ask()
        if answer.status is Status.EVENTS_FULL:
            self._pump.pump()
            answer = ask()
        return answer

    def _ask_to_open(self, request: sessions_pb2.OpenRequest, identity: str) -> Answer:
        holder = request.holder
        return self._ledger.open(
            self._clock_ns(),
            request_id=request.request_id,
            user=holder.user.encode(),
            host=holder.host.encode(),
            app=holder.app.encode(),
            label=holder.label.encode(),
            identity=identity.encode(),
            instance_id=request.instance_id.encode(),
            products=requests.product_pairs(request.products),
            ttl_ns=requests.duration_ns(request.ttl, "ttl"),
            salt=requests.open_salt(request),
        )

    def _waiting_unsupported(self, request: sessions_pb2.OpenRequest) -> types_pb2.Denial:
        requests.check_unasked(request)
        if self._drain.is_draining:
            raise _draining()
        product = next(wanted.product for wanted in request.products if not wanted.optional)
        pools = [pool for pool in self._ledger.pools() if pool.product == product]
        return denial_message(
            DenialView(
                reason=DenialReason.WAITING_UNSUPPORTED,
                product=product,
                capacity=sum(pool.capacity for pool in pools),
                in_use=sum(pool.in_use for pool in pools),
                reserved=0,
                withheld=0,
                deficit=sum(pool.deficit for pool in pools),
                waiters=0,
                retry_after_ns=0,
            )
        )

    def _error(self, answer: Answer, session_id: bytes = b"") -> VerbError:
        """The error that stands for an answer which is neither a success nor a denial."""
        match answer.status:
            case Status.NOT_FOUND:
                return _not_found(self._ledger.session_fence(session_id), answer.end_reason)
            case Status.REQUEST_ID_REUSED:
                return VerbError(
                    "INVALID_ARGUMENT",
                    "REQUEST_ID_REUSED",
                    "This request_id was used for another request; make a fresh one for each new intent.",
                )
            case Status.INVALID:
                return requests.refused_field(answer.detail)
            case Status.OVERLOADED:
                bound = Bound(answer.detail)
                metadata = {"bound": requests.bound_name(bound)}
                return VerbError("RESOURCE_EXHAUSTED", "OVERLOADED", overloaded_sentence(bound), metadata)
            case Status.DRAINING:
                return _draining()
            case Status.NOT_WRITABLE:
                return VerbError("UNAVAILABLE", "RENEW_ONLY", NOT_WRITABLE_SENTENCE)
            case Status.EVENTS_FULL:
                return VerbError(
                    "UNAVAILABLE", "EVENTS_FULL", "The broker is behind with recording its events; nothing was changed, try again."
                )
        raise AssertionError(f"the ledger answered {answer.status!r} to a verb that cannot have it")


def _not_found(fence: int, reason: EndReason) -> VerbError:
    return VerbError("NOT_FOUND", "SESSION_NOT_FOUND", not_found_sentence(public_id_of(fence), reason))


def _draining() -> VerbError:
    return VerbError("UNAVAILABLE", "DRAINING", "The broker is being drained and lets no new session in; try again later.")


def _denial_of(answer: Answer) -> types_pb2.Denial:
    assert answer.denial is not None, "a DENIED answer carries its denial"
    return denial_message(answer.denial)


def _acquired(answer: Answer) -> sessions_pb2.Acquired:
    return sessions_pb2.Acquired(
        leases=lease_messages(answer.leases),
        unavailable=[denial_message(denial) for denial in answer.unavailable],
        change_version=answer.change_version,
        replayed=answer.is_replayed,
    )


def _released(answer: Answer) -> sessions_pb2.Released:
    return sessions_pb2.Released(
        was_held=bool(answer.detail), change_version=answer.change_version, replayed=answer.is_replayed
    )
