"""The closed sets of words of the domain, numbered as on the wire (proto/broker/v1/types.proto).

The numbers are part of the protocol and of the log: never renumber, only append. `ext/ledger/words.pxd`
repeats them for the compiled ledger; tests/unit/test_words.py holds the three against each other.
"""

from __future__ import annotations

from enum import IntEnum


class EndReason(IntEnum):
    """Why a lease or session ended (semantics rule 19)."""

    NONE = 0
    CLOSED = 1
    EXPIRED = 2
    REVOKED = 3
    SUPERSEDED = 4
    RECLAIMED = 5
    ABANDONED = 6
    PREREQUISITE_LOST = 7
    POLICY_CHANGED = 8
    KEY_LOST = 9
    LICENCE_ENDED = 10
    OVERDRAFT_ENDED = 11
    BORROW_ENDED = 12


class DenialReason(IntEnum):
    """Why seats were not given."""

    NONE = 0
    NO_FREE_SEATS = 1
    DEFICIT = 2
    KEYS_STARTING = 3
    NO_CAPACITY = 4
    UNKNOWN_PRODUCT = 5
    MISSING_PRODUCT = 6
    REQUIRED_BY = 7
    WAITING_UNSUPPORTED = 8
    WAIT_LIMIT = 9
    NOT_ALLOWED = 10
    RESERVED = 11
    CAP_REACHED = 12
    WITHHELD = 13
    NOT_NAMED = 14
    LEARNING = 15


class LeaseState(IntEnum):
    """Where a lease stands, as its holder sees it."""

    NONE = 0
    ACTIVE = 1
    KEY_GRACE = 2
    ENDED = 3


class Sharing(IntEnum):
    """Who stands on one charge together (semantics rule 2)."""

    SESSION = 0
    USER = 1
    HOST = 2
    USER_HOST = 3


class LicenceModel(IntEnum):
    """The kind of licence; pools of a product are tried in this order (semantics rule 3)."""

    NAMED = 0
    DEVICE = 1
    CONCURRENT = 2
    SITE = 3


class Status(IntEnum):
    """What the ledger made of one command."""

    NONE = 0
    GRANTED = 1
    DENIED = 2
    ENDED = 3
    """The request was granted once, and that session is over."""
    RENEWED = 4
    ACQUIRED = 5
    RELEASED = 6
    CLOSED = 7
    NOT_FOUND = 8
    REQUEST_ID_REUSED = 9
    INVALID = 10
    """`Answer.detail` is an `InvalidField`."""
    OVERLOADED = 11
    """`Answer.detail` is a `Bound`."""
    EVENTS_FULL = 12
    """The event ring has no room for the worst case; nothing was changed."""
    DRAINING = 13
    """New sessions are not let in; nothing was changed or remembered."""
    NOT_WRITABLE = 14
    """The broker can read its journal but not write it: nothing new is given; nothing was changed or remembered."""


class InvalidField(IntEnum):
    """Which part of a command breaks its bounds."""

    NONE = 0
    USER = 1
    HOST = 2
    APP = 3
    LABEL = 4
    INSTANCE_ID = 5
    IDENTITY = 6
    PRODUCTS = 7
    """None, too many, the same twice, or only optional ones."""
    TTL = 8
    PRIORITY = 9


class Bound(IntEnum):
    """Which bound of the broker was reached."""

    NONE = 0
    SESSIONS = 1
    LEASES = 2
    CHARGES = 3
    REMEMBERED_REQUESTS = 4
    TEXT = 5
    LEASES_OF_SESSION = 6


class EventKind(IntEnum):
    """What an event of the ledger records."""

    NONE = 0
    SESSION_OPENED = 1
    SESSION_ENDED = 2
    LEASE_STARTED = 3
    LEASE_ENDED = 4
    DENIED = 5
    CAPACITY_CHANGED = 6
    KEY_GRACE_STARTED = 7
    KEY_GRACE_ENDED = 8
    CHARGE_FREED = 9
    CHARGE_LINGERS = 10
    CHARGE_MOVED = 11
    REQUEST_DONE = 12
    PRODUCT_DECLARED = 13
    POOL_DECLARED = 14
    NOTE = 15
    WALL_CLOCK = 16
    RUN_STARTED = 17
    RUN_ENDED = 18
    LEASES_ACKNOWLEDGED = 19


JOURNAL_KINDS = frozenset(kind for kind in EventKind if kind >= EventKind.REQUEST_DONE)
"""What only the journal and the history need: the protocol has no such events, and watchers are not told of them."""


class StateKind(IntEnum):
    """The records of a snapshot: the state of a ledger, in the same form as events. Products, pools and notes are told by their events."""

    NONE = 0
    BEGIN = 64
    SESSION = 65
    CHARGE = 66
    LEASES = 67
    """More leases of the charge before."""
    ROOMY = 68
    """A charge with room, of a sharing group that has several."""
    OVER = 69
    """A session that is over, and its Open remembered."""
    REQUEST = 70
    END = 71
