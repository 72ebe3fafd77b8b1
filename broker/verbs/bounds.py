"""The bounds of the verbs: what one message, one stream and one process may hold (design section 4, invariant 8).

What the ledger bounds too is taken from its table; the rest are bounds of messages and streams, which it does not know.
"""

from __future__ import annotations

from broker.limits import LIMITS

REQUEST_ID_SIZE = LIMITS["REQUEST_ID_SIZE"]
SESSION_ID_SIZE = LIMITS["SESSION_ID_SIZE"]
PRODUCT_SIZE_MAX = LIMITS["PRODUCT_SIZE_MAX"]
PRODUCT_COUNT_MAX = LIMITS["ITEMS_MAX"]
USER_SIZE_MAX = LIMITS["USER_SIZE_MAX"]
HOST_SIZE_MAX = LIMITS["HOST_SIZE_MAX"]
APP_SIZE_MAX = LIMITS["APP_SIZE_MAX"]
LABEL_SIZE_MAX = LIMITS["LABEL_SIZE_MAX"]
INSTANCE_ID_SIZE_MAX = LIMITS["INSTANCE_ID_SIZE_MAX"]
CLIENT_NONCE_SIZE_MAX = 32
MACHINE_IDENTIFIER_COUNT_MAX = 8
MACHINE_IDENTIFIER_SIZE_MAX = 64
REVOKE_REASON_SIZE_MAX = 256

MESSAGE_SIZE_MAX = 64 * 1024
"""Of every message of Sessions, both ways, and of every body at the JSON door."""
STREAM_ANSWER_SIZE_MAX = 60 * 1024
"""Where a KeepAlive answer is cut into several messages; one more item never fills the rest."""

RENEWALS_PER_MESSAGE_MAX = 256
SESSIONS_PER_STREAM_MAX = 10_000
NOTICES_WAITING_MAX = 20_000
"""Notices that one stream has not yet read; a reader slower than that opens its stream again and renews."""

EVENTS_KEPT_MAX = 10_000
EVENTS_KEPT_SIZE_MAX = 4 * 1024 * 1024
"""Of the events kept for watchers, whichever of the two comes first: those of logins with the longest names are 700 bytes each."""
EVENTS_PER_MESSAGE_MAX = 256

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 256
CURSOR_MAX = LIMITS["RECORDS_CEILING"]
SCANS_PER_PAGE_MAX = 16
"""Calls of `Ledger.sessions` for one page, 4,096 records each."""

DURATION_NS_MAX = LIMITS["TTL_MAX_NS"]
"""Longer durations are taken as this; the ledger shortens a ttl further. Any data plane must do the same, because the ttl
that the ledger is given is part of a request's fingerprint."""
