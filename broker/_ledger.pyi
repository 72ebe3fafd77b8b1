"""The compiled ledger: sessions, charges, leases, pools, deadlines. No I/O, no clock, no random source.

Every `now_ns` is CLOCK_MONOTONIC in nanoseconds, given by the caller. Each method may be called from any
thread; it lets the GIL go before it takes the ledger's one mutex. The rules stand in
ext/ledger/RULES.md.
"""

from collections.abc import Sequence

from broker.model.answers import Answer, LeaseView
from broker.model.terms import PoolTerms
from broker.model.views import Counters, PoolView, ProductView, Recovered, SessionView
from broker.model.words import EndReason

LIMITS: dict[str, int]
"""Every bound of ext/limits.pxd, by name."""

def siphash(secret: bytes, data: bytes) -> bytes:
    """SipHash-2-4-128, for tests: 16 bytes under a secret of 16 bytes."""

class Ledger:
    """The truth about seats. One per broker.

    `broker_id` 8 bytes, `secret` 16 bytes (signs session ids and keys all hashes), `generation` 1..2**23-1.
    Sizes are counts of records; memory is only touched as they fill. ValueError names a wrong argument.
    """

    def __init__(
        self,
        *,
        broker_id: bytes,
        secret: bytes,
        generation: int,
        start_ns: int,
        ttl_ns: int = ...,
        renew_grace_ns: int = ...,
        request_window_ns: int = ...,
        denial_window_ns: int = ...,
        stall_ns: int = ...,
        sessions_max: int = ...,
        leases_max: int = ...,
        charges_max: int = ...,
        requests_max: int = ...,
        denials_max: int = ...,
        text_size_max: int = ...,
        event_ring_size: int = ...,
        is_lossy: bool = ...,
    ) -> None:
        """is_lossy: a full event ring overwrites its oldest events (which are counted) and refuses nothing: durability "none"."""

    # --- products, pools, sources: the control plane -------------------------------------------------
    def declare_product(self, product: str) -> int:
        """Its index; the same for the same id, replayed ones included. ValueError at the bound, for a bad id, or before `resume` of what
        was replayed; EventsFull if the event that says so finds no room, here and in `declare_pool`."""
    def declare_pool(self, product: str, terms: PoolTerms, is_emulated: bool) -> int:
        """The pool of equal terms, made if need be (and its product with it)."""
    def set_starting(self, now_ns: int, pool: int, is_starting: bool) -> None:
        """While its keys are being tried: denials say so, and no charge is ended or put into key grace for want of them."""
    def prove_source(
        self, now_ns: int, source: int, pool: int, seats: int, proven_until_ns: int, grace_until_ns: int
    ) -> None:
        """Source (0..sources_max-1) gives seats until proven_until_ns; if not refreshed, its charges may stay until grace_until_ns."""
    def lose_source(self, now_ns: int, source: int, grace_until_ns: int, cause: EndReason) -> None:
        """The source gives no more seats from now; its charges may stay until grace_until_ns."""

    def set_admitting(self, now_ns: int, is_admitting: bool) -> None:
        """Whether new sessions are let in. While not, an Open that is not a repeated one answers DRAINING."""

    def set_writable(self, now_ns: int, is_writable: bool) -> None:
        """Whether the journal can be written. While not, an Open or Acquire that is not a repeated one answers NOT_WRITABLE. Events go
        on to be written into the ring: give a ledger whose journal cannot be written a lossy one."""
    def set_learning(self, now_ns: int, until_ns: int) -> None:
        """Until then (durations are measured in ledger time) what would take a new charge is denied as LEARNING, with the rest as
        retry_after; joins, renewals and moves go on."""

    # --- runs: what is kept from one start to the next ---------------------------------------------------
    def replay(self, events: bytes) -> None:
        """Whole events of a log in their order, or first the records of a snapshot, into a ledger in which nothing has happened yet;
        may be called again with those that follow. ValueError names the first event that cannot be and says why; the ledger is then of
        no use. Emits nothing. Until `resume` only `dump`, `notes`, `replay` may follow. The GIL is let go."""
    def resume(self, now_ns: int, wall_ns: int) -> Recovered:
        """The run begins: ledger time goes on from the last event's, sequences too; every session has a full ttl; what is counted since the
        start begins at 0; RUN_STARTED is written. ValueError if a snapshot is not complete, or if this generation is not behind all those
        replayed. Also of a ledger without a past."""
    def end_run(self, now_ns: int) -> int:
        """A clean stop, as the last word of a run; the position behind it. EventsFull."""
    def mark_wall(self, now_ns: int, wall_ns: int) -> int:
        """WALL_CLOCK: ties ledger time to wall time and is the high-water mark; the position behind it. EventsFull."""
    def note(self, now_ns: int, name: bytes, value: bytes) -> int:
        """A durable word of the control plane; an empty value forgets it; the position behind it. ValueError at NOTE_NAME_SIZE_MAX,
        NOTE_VALUE_SIZE_MAX, NOTES_MAX; EventsFull if there is no room for its event."""
    def notes(self) -> dict[bytes, bytes]:
        """All that were noted and not forgotten, replayed ones included."""
    def dump(self, cursor: int, size_max: int) -> tuple[bytes, int]:
        """State records from a cursor on, at most size_max bytes (at least UNIT_SIZE_MAX), and the next cursor: 0 begins, 0 as the next one
        is the end. Of a ledger that nobody changes meanwhile. All of it replayed into a new ledger gives the same dump. ValueError in
        the middle of a command whose last event has not been replayed."""
    @property
    def position(self) -> int:
        """Behind the last event: once this is committed, everything before it is."""

    # --- client commands -------------------------------------------------------------------------------
    def open(
        self,
        now_ns: int,
        *,
        request_id: bytes,
        user: bytes,
        host: bytes,
        products: Sequence[tuple[str, bool]],
        app: bytes = b"",
        label: bytes = b"",
        identity: bytes = b"",
        instance_id: bytes = b"",
        ttl_ns: int = 0,
        priority: int = 0,
        salt: bytes = b"",
    ) -> Answer:
        """GRANTED, DENIED, ENDED, REQUEST_ID_REUSED, INVALID, OVERLOADED, EVENTS_FULL, DRAINING or NOT_WRITABLE.

        products: (id, is_optional). ttl_ns 0: the ledger's own; longer is shortened. salt: any other parts of the
        request (client nonce, machine identifiers, wait limit), so that a retry with other ones is told apart.
        """
    def renew(self, now_ns: int, session_id: bytes, change_version: int = 0) -> Answer:
        """RENEWED, NOT_FOUND, or EVENTS_FULL: its time is over, and its end waits for room."""
    def acquire(
        self, now_ns: int, session_id: bytes, request_id: bytes, products: Sequence[tuple[str, bool]], salt: bytes = b""
    ) -> Answer:
        """ACQUIRED, DENIED, NOT_FOUND, REQUEST_ID_REUSED, INVALID, OVERLOADED, EVENTS_FULL or NOT_WRITABLE."""
    def release(self, now_ns: int, session_id: bytes, request_id: bytes, product: str) -> Answer:
        """RELEASED, NOT_FOUND, REQUEST_ID_REUSED, OVERLOADED or EVENTS_FULL."""
    def close(self, now_ns: int, session_id: bytes, request_id: bytes) -> Answer:
        """CLOSED, NOT_FOUND, REQUEST_ID_REUSED or EVENTS_FULL."""
    def revoke(self, now_ns: int, fence: int, reason: EndReason = ...) -> bool:
        """Whether there was such a session. False also when the event ring is full: see `counters()`."""

    # --- time --------------------------------------------------------------------------------------------
    def advance(self, now_ns: int) -> bool:
        """Does what is due, at most 256 items; whether more is due at once."""
    def tick(self, now_ns: int) -> tuple[int, int]:
        """`advance`, and when to call again: now_ns if at once, 5 ms later if what is due finds no room in the event ring. Beside it
        the position of the events behind it."""
    def next_due_ns(self, now_ns: int) -> int:
        """When `advance` next has something to do, for a sleeping caller; now_ns if at once."""

    # --- reading -----------------------------------------------------------------------------------------
    def products(self) -> list[ProductView]: ...
    def pools(self) -> list[PoolView]: ...
    def counters(self) -> Counters: ...
    def sessions(self, now_ns: int, cursor: int = 0, count_max: int = 256) -> tuple[list[SessionView], int]:
        """Open sessions from the cursor on, and the next cursor; 0 begins, and 0 as the next one means the end.
        Scans at most 4,096 records a call, so a page may be short or empty before the end."""
    def find_session(self, now_ns: int, fence: int, place: int | None = None) -> SessionView | None:
        """The open session of this fence, or None. Without the place of its id all sessions are looked through, 4,096 at a time."""
    def end_reason(self, now_ns: int, fence: int) -> EndReason:
        """Why the session of this fence ended, as long as its record is kept; NONE of one that is open or forgotten. For admins: all
        sessions are looked through."""
    def peek_session(
        self, now_ns: int, fence: int, place: int
    ) -> tuple[tuple[LeaseView, ...] | None, EndReason]:
        """The leases of an open session; or None and why it ended: NONE if that is forgotten, or if its time is over and
        nobody has recorded its end yet."""
    def session_fence(self, session_id: bytes) -> int:
        """The fence inside a genuine session id; 0 if it is not one of this broker's. Says nothing of whether it lives."""
    def session_place(self, session_id: bytes) -> int:
        """Where the session of this id stands, for `find_session`; of any id, genuine or not."""
    def drain_events(self, size_max: int = ...) -> bytes:
        """Whole events, oldest first, for broker.model.events.decode_events; empty when there are none. RuntimeError, here and in
        `drain_block`, once a journal has the ring: then only it gives room back."""
    def drain_block(self, size_max: int = ...) -> tuple[bytes, int, int]:
        """As `drain_events`, with the sequences of the first and the last event of the block; what lies between them grows by one each.
        Of an empty block the first is the one to come, the last the one before it."""
    def read_events(self, position: int, size_max: int = ...) -> tuple[bytes, int, int]:
        """Whole events from a position on (of whole commands, if one fits), drained or not, as long as they are kept; the position behind them; and how many
        bytes of events were overwritten before they were read. Position 0: from the oldest that is kept. Other positions are those
        that this method, `tick` or `execute` gave; they are bytes of the event stream and only grow."""
    def recent_commands(self) -> bytes:
        """The last commands in the order in which they had the mutex (at least 10,000 of usual size), and what the ledger was made
        with, for broker.model.commands.decode_commands: after a failure the model can do them again."""
    def port(self) -> object:
        """The ledger for other compiled modules: a LedgerPort (ext/ledger/port.pxd) in a capsule, which keeps the ledger alive."""
    def memory_size(self) -> int:
        """Bytes of address space reserved; what is resident grows with use."""

    # --- batches: what the data plane and the benchmark use ------------------------------------------------
    def execute(self, now_ns: int, batch: Batch) -> int:
        """All commands of the batch, in order, under one hold of the mutex; the position of the events behind it."""

class Batch:
    """Up to LIMITS["BATCH_MAX"] commands, made ready once and executed without the GIL; answers are read afterwards."""

    count_max: int

    def __init__(self, count_max: int) -> None: ...
    def __len__(self) -> int: ...
    def clear(self) -> None: ...
    def add_open(
        self,
        ledger: Ledger,
        *,
        request_id: bytes,
        user: bytes,
        host: bytes,
        products: Sequence[tuple[str, bool]],
        app: bytes = b"",
        label: bytes = b"",
        identity: bytes = b"",
        instance_id: bytes = b"",
        ttl_ns: int = 0,
        priority: int = 0,
        salt: bytes = b"",
    ) -> None: ...
    def add_renew(self, ledger: Ledger, session_id: bytes, change_version: int = 0) -> None: ...
    def add_acquire(
        self, ledger: Ledger, session_id: bytes, request_id: bytes, products: Sequence[tuple[str, bool]], salt: bytes = b""
    ) -> None: ...
    def add_release(self, ledger: Ledger, session_id: bytes, request_id: bytes, product: str) -> None: ...
    def add_close(self, ledger: Ledger, session_id: bytes, request_id: bytes) -> None: ...
    def statuses(self) -> bytes:
        """One byte a command: its Status."""
    def session_ids(self) -> bytes:
        """32 bytes a command: the session id of each GRANTED, zeros elsewhere."""
    def answer(self, ledger: Ledger, index: int) -> Answer:
        """One command's answer. IndexError beyond the batch."""
