"""What the broker says to a person: one or two sentences with the cause, the numbers and the remedy.

Sentences may change from version to version; programs read reasons and numbers. Product ids come from the caller and
are shown as they are; no sentence holds a session id or a token.
"""

from __future__ import annotations

from broker.model.answers import DenialView
from broker.model.events import Event
from broker.model.words import Bound, DenialReason, EndReason, EventKind

_END_WORDS = {
    EndReason.NONE: "is over",
    EndReason.CLOSED: "was closed by its holder",
    EndReason.EXPIRED: "has expired: it was not renewed in time",
    EndReason.REVOKED: "was ended by an admin",
    EndReason.SUPERSEDED: "was superseded by a newer session of the same holder and instance",
    EndReason.RECLAIMED: "was asked to give way and has ended",
    EndReason.ABANDONED: "was offered to a waiter that did not take it up",
    EndReason.PREREQUISITE_LOST: "has ended with a product that it needs",
    EndReason.POLICY_CHANGED: "is no longer allowed by this site's rules",
    EndReason.KEY_LOST: "has ended: its security key is gone",
    EndReason.LICENCE_ENDED: "has ended: its licence is over or was withdrawn",
    EndReason.OVERDRAFT_ENDED: "has ended with the overdraft that it stood on",
    EndReason.BORROW_ENDED: "has ended with the borrowed period",
}

_BOUND_WORDS = {
    Bound.SESSIONS: "open sessions",
    Bound.LEASES: "leases",
    Bound.CHARGES: "charges",
    Bound.REMEMBERED_REQUESTS: "remembered requests",
    Bound.TEXT: "bytes of names",
}


NOT_WRITABLE_SENTENCE = (
    "The broker cannot write to its disk: sessions go on and can be renewed, released and closed, but nothing new is given;"
    " let the admin look at the log of the broker, and try again later."
)


def seconds(duration_ns: int) -> str:
    """A duration for people: "5 s", "0.5 s"."""
    return f"{duration_ns / 1e9:g} s"


def denial_sentence(denial: DenialView) -> str:
    """Why the product was not given, with the numbers, and what would help."""
    sentence = _DENIAL_SENTENCES.get(denial.reason, _other_denial)
    return sentence(denial)


def _again(denial: DenialView) -> str:
    return f"ask again in {seconds(denial.retry_after_ns)}" if denial.retry_after_ns else "ask again later"


def _no_free_seats(denial: DenialView) -> str:
    free = denial.capacity - denial.in_use
    if free > 0:
        taken = f"Only {free} of the {denial.capacity} seats of {denial.product} {_is_or_are(free)} free, and this takes more"
    elif denial.capacity == 1:
        taken = f"The only seat of {denial.product} is in use"
    else:
        taken = f"All {denial.capacity} seats of {denial.product} are in use"
    return f"{taken}; {_again(denial)}, or plug in another key."


def _deficit(denial: DenialView) -> str:
    return (
        f"A key of {denial.product} is missing: {_seats(denial.in_use)} {_is_or_are(denial.in_use)} in use, but the keys present give"
        f" {denial.capacity}, so nobody new is let in. Plug the key back in, or {_again(denial)}."
    )


def _keys_starting(denial: DenialView) -> str:
    return f"The broker has just started and is still proving its keys of {denial.product}; {_again(denial)}."


def _no_capacity(denial: DenialView) -> str:
    return (
        f"No key that is plugged in gives seats of {denial.product}. Plug its key in; if it is, an admin sees with"
        " `usher keys` and `usher licences` what is wrong."
    )


def _unknown_product(denial: DenialView) -> str:
    return (
        f"No licence on this broker names the product {denial.product}. Check the spelling, or add its licence to the"
        " broker's licence folder."
    )


def _missing_product(denial: DenialView) -> str:
    return f"{denial.product} needs another product in the same session; ask for both together."


def _required_by(denial: DenialView) -> str:
    return f"{denial.product} cannot be given back while another product of the session needs it; give that one back first."


def _waiting_unsupported(denial: DenialView) -> str:
    return (
        f"This broker keeps no waitlist ({denial.in_use} of {denial.capacity} seats of {denial.product} are in use);"
        " ask without a wait limit."
    )


def _wait_limit(denial: DenialView) -> str:
    return f"No seat of {denial.product} became free in the time to wait; {_again(denial)}, or wait longer."


def _not_allowed(denial: DenialView) -> str:
    return f"This site's rules do not allow {denial.product} to this user, computer or program; ask the admin."


def _reserved(denial: DenialView) -> str:
    return f"The free seats of {denial.product} are reserved for others ({_seats(denial.reserved)}); {_again(denial)}."


def _cap_reached(denial: DenialView) -> str:
    return f"The group already has as many seats of {denial.product} as its cap allows; {_again(denial)}."


def _withheld(denial: DenialView) -> str:
    return f"The free seats of {denial.product} are kept for a request that has waited longer; {_again(denial)}."


def _not_named(denial: DenialView) -> str:
    return f"The licence of {denial.product} names its users or computers, and this is not one of them; ask the admin."


def _learning(denial: DenialView) -> str:
    return f"The broker is back from an unclean stop and still learns who holds seats of {denial.product}; {_again(denial)}."


def _other_denial(denial: DenialView) -> str:
    return f"{denial.product} was not given ({denial.reason.name.lower()}); {_again(denial)}."


_DENIAL_SENTENCES = {
    DenialReason.NO_FREE_SEATS: _no_free_seats,
    DenialReason.DEFICIT: _deficit,
    DenialReason.KEYS_STARTING: _keys_starting,
    DenialReason.NO_CAPACITY: _no_capacity,
    DenialReason.UNKNOWN_PRODUCT: _unknown_product,
    DenialReason.MISSING_PRODUCT: _missing_product,
    DenialReason.REQUIRED_BY: _required_by,
    DenialReason.WAITING_UNSUPPORTED: _waiting_unsupported,
    DenialReason.WAIT_LIMIT: _wait_limit,
    DenialReason.NOT_ALLOWED: _not_allowed,
    DenialReason.RESERVED: _reserved,
    DenialReason.CAP_REACHED: _cap_reached,
    DenialReason.WITHHELD: _withheld,
    DenialReason.NOT_NAMED: _not_named,
    DenialReason.LEARNING: _learning,
}


def not_found_sentence(public_id: str, reason: EndReason) -> str:
    """For a session that is not open. `public_id` is empty if the id is not one of this broker's; `reason` NONE: not known."""
    if not public_id:
        return "This broker never gave out that session id; open a new session."
    if reason is EndReason.NONE:
        return f"Session {public_id} is over or expired; open a new one."
    return f"Session {public_id} {_END_WORDS[reason]}; open a new one."


def overloaded_sentence(bound: Bound) -> str:
    """For a bound of the broker that is reached. Nothing was changed."""
    if bound is Bound.LEASES_OF_SESSION:
        return "The session has as many leases as a session may have; open another session for more products."
    what = _BOUND_WORDS.get(bound, "records")
    return f"The broker holds as many {what} as it may, so nothing was taken; try again later, or let the admin raise the bound."


def event_sentence(event: Event, session: str, product: str) -> str:
    """One event in words. `session` is the public id it is about, `product` the product's id; each may be empty."""
    sentence = _EVENT_SENTENCES.get(event.kind)
    return sentence(event, session, product) if sentence else ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _seats(count: int) -> str:
    return "1 seat" if count == 1 else f"{count} seats"


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"


def _session_opened(event: Event, session: str, _product: str) -> str:
    program = f" with {_text(event.app)}" if event.app else ""
    return f"{_text(event.user)} on {_text(event.host)} opened session {session}{program}."


def _session_ended(event: Event, session: str, _product: str) -> str:
    return f"Session {session} {_END_WORDS[EndReason(event.reason)]}."


def _lease_started(event: Event, session: str, product: str) -> str:
    taken = _seats(event.seats) if event.seats else "no seat of its own"
    return f"Session {session} holds {product} and took {taken}."


def _lease_ended(event: Event, session: str, product: str) -> str:
    return f"{product} of session {session} {_END_WORDS[EndReason(event.reason)]}."


def _denied(event: Event, _session: str, product: str) -> str:
    what = product or "an unknown product"
    times = f"{event.seats} requests for {what} were" if event.seats > 1 else f"A request for {what} was"
    return f"{times} denied: {event.reason.name.lower()}."


def _capacity_changed(event: Event, _session: str, product: str) -> str:
    missing = f", {event.deficit} fewer than are in use" if event.deficit else ""
    return f"{product} has {_seats(event.seats)} now{missing}."


def _key_grace_started(event: Event, _session: str, product: str) -> str:
    return f"{_seats(event.seats)} of {product} lost the key behind and will end unless it comes back."


def _key_grace_ended(event: Event, _session: str, product: str) -> str:
    return f"{_seats(event.seats)} of {product} left key grace." if event.charge else f"No seat of {product} is in key grace any more."


def _charge_freed(event: Event, _session: str, product: str) -> str:
    return f"{_seats(event.seats)} of {product} came free."


def _charge_lingers(event: Event, _session: str, product: str) -> str:
    return f"{_seats(event.seats)} of {product} will come free after its hold."


def _charge_moved(event: Event, session: str, product: str) -> str:
    return f"{_seats(event.seats)} of {product} went over to session {session}."


_EVENT_SENTENCES = {
    EventKind.SESSION_OPENED: _session_opened,
    EventKind.SESSION_ENDED: _session_ended,
    EventKind.LEASE_STARTED: _lease_started,
    EventKind.LEASE_ENDED: _lease_ended,
    EventKind.DENIED: _denied,
    EventKind.CAPACITY_CHANGED: _capacity_changed,
    EventKind.KEY_GRACE_STARTED: _key_grace_started,
    EventKind.KEY_GRACE_ENDED: _key_grace_ended,
    EventKind.CHARGE_FREED: _charge_freed,
    EventKind.CHARGE_LINGERS: _charge_lingers,
    EventKind.CHARGE_MOVED: _charge_moved,
}
