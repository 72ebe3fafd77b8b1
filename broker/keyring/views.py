"""What the keyring shows: keys and licences as an admin, the command line and the metrics see them. Values; any thread.

Every row says why: `code` is a constant word, fit for a metric label, `sentence` is for people. Ages and latencies are in
nanoseconds, instants in seconds since 1970.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from broker.keyring.book import CapacityBook
from broker.keyring.capacity import Given, may_stand_behind
from broker.keyring.periods import ends_soon_sentence
from broker.keyring.records import KeyRecord
from broker.keyring.states import COUNTING_STATES, KeyState
from broker.licence import FolderReading, Licence, Period, Refusal, period_sentence


class LicenceState(StrEnum):
    """Whether a licence counts. The values are those of `LicenceState` in admin.proto, and metric labels."""

    COUNTING = "counting"
    KEY_ABSENT = "key_absent"  # or there, but not proven: the sentence says which
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    REFUSED = "refused"
    SET_ASIDE = "set_aside"  # a larger key of its series counts on this host


@dataclass(frozen=True, slots=True)
class KeyView:
    """One security key. `thumbprint` is empty for one that has not said who it is yet."""

    thumbprint: str
    state: KeyState
    code: str
    sentence: str
    description: str
    address: str
    is_emulated: bool
    seats: Mapping[str, int]  # given now, by product; what is set aside is not among them
    last_proof_age_ns: int | None
    proof_latency_ns: int | None
    proof_count: int
    proof_failure_count: int
    grace_left_ns: int
    set_aside: Mapping[str, int] = field(default_factory=dict)  # seats that a larger key of their series displaces


@dataclass(frozen=True, slots=True)
class LicenceView:
    """One licence, or a file that is none (then most is empty)."""

    licence_id: str
    vendor: str
    product: str
    seats: int
    state: LicenceState
    code: str
    sentence: str
    thumbprint: str
    file: str
    not_before_unix_s: int
    expires_unix_s: int | None
    is_test: bool
    terms: str
    customer: str
    ends_in_s: int | None = None  # below zero once it has ended; None for one without an end
    is_ending: bool = False  # an admin is being warned that its end is near


@dataclass(frozen=True, slots=True)
class KeyringViews:
    """All keys and licences at one instant; what is wrong with the keyring itself, as sentences."""

    keys: tuple[KeyView, ...]
    licences: tuple[LicenceView, ...]
    is_starting: bool
    is_clock_suspect: bool
    faults: tuple[str, ...]


def key_views(
    records: Iterable[KeyRecord], given: Mapping[str, Given], set_aside: Iterable[Licence], now_ns: int
) -> tuple[KeyView, ...]:
    """The keys, with the seats that the ledger has been told of, and those that their series displaces."""
    counted = _seats_by_key(one.licence for one in given.values() if not one.is_lost)
    displaced = _seats_by_key(set_aside)
    return tuple(
        _key_view(record, counted.get(record.thumbprint, {}), displaced.get(record.thumbprint, {}), now_ns)
        for record in records
    )


def _seats_by_key(licences: Iterable[Licence]) -> Mapping[str, Mapping[str, int]]:
    """By thumbprint, then by product."""
    seats: dict[str, dict[str, int]] = {}
    for licence in licences:
        products = seats.setdefault(licence.thumbprint, {})
        products[licence.product] = products.get(licence.product, 0) + licence.seats
    return seats


def _key_view(
    record: KeyRecord, seats: Mapping[str, int], set_aside: Mapping[str, int], now_ns: int
) -> KeyView:
    code, sentence = record.code, record.sentence
    if record.state is KeyState.ABSENT and not sentence:
        sentence = "a licence names it, but it is not plugged in"
    elif set_aside and not sentence:
        code, sentence = "one_per_host", _set_aside_sentence(set_aside)
    return KeyView(
        thumbprint=record.thumbprint,
        state=record.state,
        code=code,
        sentence=sentence,
        description=record.description,
        address=record.address,
        is_emulated=record.is_emulated,
        seats=seats,
        last_proof_age_ns=None if record.last_proof_ns is None else now_ns - record.last_proof_ns,
        proof_latency_ns=record.proof_latency_ns,
        proof_count=record.proof_count,
        proof_failure_count=record.failure_count,
        grace_left_ns=record.budget.remaining_ns(now_ns),
        set_aside=set_aside,
    )


def _set_aside_sentence(set_aside: Mapping[str, int]) -> str:
    seats = ", ".join(f"{count} of {product}" for product, count in sorted(set_aside.items()))
    return f"seats set aside ({seats}): of its series only the largest key of a host counts; plug it into another host"


def licence_views(
    reading: FolderReading,
    records: Mapping[str, KeyRecord],
    book: CapacityBook,
    set_aside: Mapping[str, str],
    now_unix_s: int,
    warned_s: int,
) -> tuple[LicenceView, ...]:
    """All licences of the folder by file name, the refused ones among them. The end of one is near from `warned_s` on."""

    def view(licence: Licence) -> LicenceView:
        judged = _licence_state(licence, records.get(licence.thumbprint), book, set_aside, now_unix_s)
        return _with_end(_licence_view(licence, *judged), licence, now_unix_s, warned_s)

    rows = [view(licence) for licence in reading.accepted]
    rows += [_refused_view(refusal) for refusal in reading.refused]
    return tuple(sorted(rows, key=lambda row: row.file))


def _licence_state(
    licence: Licence, record: KeyRecord | None, book: CapacityBook, set_aside: Mapping[str, str], now_unix_s: int
) -> tuple[LicenceState, str, str]:
    """State, code and sentence of an authentic licence."""
    period = licence.period_at(now_unix_s)
    given = book.given.get(licence.digest)
    if period is not Period.VALID:
        return LicenceState(period.value), period.value, period_sentence(licence, period)
    if full := book.refusal(licence):
        return LicenceState.REFUSED, "no_room", full
    if given is not None and not given.is_lost:
        return LicenceState.COUNTING, "", ""
    if larger := set_aside.get(licence.digest):
        sentence = f"of its series only the largest key of a host counts, which is {larger}; plug this one into another host"
        return LicenceState.SET_ASIDE, "one_per_host", sentence
    if record is None or record.state is KeyState.ABSENT:
        sentence = f"its security key {licence.thumbprint} is not plugged in"
        return LicenceState.KEY_ABSENT, "key_absent", sentence
    if not may_stand_behind(licence, record.is_emulated):
        sentence = (
            "its security key is an EMULATED one, which anybody can copy: only licences of a test vendor count on it; get one"
            " for a real key"
        )
        return LicenceState.REFUSED, "emulated_key", sentence
    why = f": {record.sentence}" if record.sentence and record.state not in COUNTING_STATES else ""
    return LicenceState.KEY_ABSENT, f"key_{record.state}", f"its security key is {record.state}{why}"


def _with_end(view: LicenceView, licence: Licence, now_unix_s: int, warned_s: int) -> LicenceView:
    """The same view, and how near its end is; where nothing worse is to be said, that."""
    if licence.expires_unix_s is None:
        return view
    ends_in_s = licence.expires_unix_s - now_unix_s
    is_ending = licence.period_at(now_unix_s) is Period.VALID and ends_in_s <= warned_s
    view = replace(view, ends_in_s=ends_in_s, is_ending=is_ending)
    if not is_ending or view.code:
        return view
    return replace(view, code="ends_soon", sentence=ends_soon_sentence(licence, licence.expires_unix_s, now_unix_s))


def _licence_view(licence: Licence, state: LicenceState, code: str, sentence: str) -> LicenceView:
    return LicenceView(
        licence_id=licence.licence_id,
        vendor=licence.vendor,
        product=licence.product,
        seats=licence.seats,
        state=state,
        code=code,
        sentence=sentence,
        thumbprint=licence.thumbprint,
        file=licence.file,
        not_before_unix_s=licence.not_before_unix_s,
        expires_unix_s=licence.expires_unix_s,
        is_test=licence.is_test,
        terms=licence.terms.in_words(),
        customer=licence.customer,
    )


def _refused_view(refusal: Refusal) -> LicenceView:
    return LicenceView(
        licence_id=refusal.licence_id,
        vendor=refusal.vendor,
        product=refusal.product,
        seats=0,
        state=LicenceState.REFUSED,
        code=refusal.reason.value,
        sentence=refusal.sentence,
        thumbprint="",
        file=refusal.file,
        not_before_unix_s=0,
        expires_unix_s=None,
        is_test=False,
        terms="",
        customer="",
    )
