"""The data plane: gRPC for client apps, from the socket to the ledger and back, without the GIL."""

from os import PathLike

from broker._ledger import Ledger
from broker.model.listener import ListenerCounters

class ServerContext:
    """What TLS connections are made from, as broker._tls.ServerContext."""

    certificate_path: object
    private_key_path: object
    client_ca_path: object
    warnings: tuple[str, ...]

    def __init__(self, certificate_path: object, private_key_path: object, client_ca_path: object = None) -> None:
        """Reads the PEM files. ConfigError says what is wrong with which."""

    def reload(self) -> None:
        """Reads them again, for connections to come. ConfigError leaves everything as it was. From any thread."""
    @property
    def is_mutual(self) -> bool: ...
    @property
    def connection_count(self) -> int: ...

class Listener:
    """Serves broker.v1.Sessions and grpc.health.v1.Health on one listening socket with one or more loops.

    Each loop is run by a thread of its own that calls `run` once; all other methods may be called from any thread. Bounds
    in time: `handshake_ns` from accept to the end of TLS's handshake, and as long again to HTTP/2's preface; `headers_ns`
    for a header block; `body_ns` for a message; `idle_ns` without a call; `write_ns` in which a socket takes nothing;
    `drain_ping_ns` for the answer to the PING that comes before the last GOAWAY. Defaults and ceilings: broker.limits.
    """

    def __init__(
        self,
        ledger: Ledger,
        listening_fd: int,
        *,
        thread_count: int = 1,
        tls: ServerContext | None = None,
        renew_grace_ns: int,
        connections_max: int = ...,
        streams_max: int = ...,
        handshake_ns: int = ...,
        headers_ns: int = ...,
        body_ns: int = ...,
        idle_ns: int = ...,
        write_ns: int = ...,
        drain_ping_ns: int = ...,
        is_ticking: bool = True,
        is_holding: bool | None = None,
        journal: object | None = None,
    ) -> None:
        """Makes the loops and begins nothing. `listening_fd` is bound, and stays the caller's; it must listen when the first
        loop begins, and be open until all have ended. It becomes non-blocking. OSError, MemoryError, or ValueError for
        values beyond their bounds.

        journal: `broker._journal.Journal.port()`, begun on this ledger, which is woken when events were written. is_holding: answers and
        notices about sessions leave when their events are committed; None: if there is a journal."""

    def run(self, number: int) -> None:
        """Serves until drained or stopped. Blocks without the GIL, with all signals blocked in the calling thread but the
        fatal ones. RuntimeError for a loop that was run before."""

    def set_serving(self, is_serving: bool) -> None:
        """What health answers. Begins with False."""

    def drain(self, grace_ns: int) -> None:
        """Takes no new connection, asks every peer to go (GOAWAY), ends the streams with UNAVAILABLE, DRAINING, serves the calls
        under way, what is held included, and cuts what is left after the grace. Then the loops end. Again: the sooner end counts."""

    def keep_port(self) -> None:
        """Another process has the listening socket, too: a drain to come stops accepting, and leaves the queue to it. Otherwise it shuts the
        socket down, so that nobody waits in vain."""

    def stop(self) -> None:
        """Ends the loops at once."""

    def wake(self) -> None:
        """Makes the loops look at once: something may be due that was not."""

    def commit(self, position: int) -> None:
        """With is_holding: answers whose events end at or before the position may leave. Instead of a journal, for tests."""
    @property
    def position(self) -> int:
        """The newest position that an answer waits for."""

    def counters(self) -> ListenerCounters: ...
    def last_states(self) -> str:
        """A line for each loop: what it did last."""

def install_fatal_dump(listener: Listener, commands_file: str | PathLike[str] | None = None) -> None:
    """From now on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT first write the last state of each loop to standard error, and the
    ledger's last commands (up to 4 MiB, with names of users) to the file, made 0600, for broker.model.commands.decode_commands; then the
    process dies of the signal. Of the whole process: the newest listener counts, and is kept. Main thread. OSError, ValueError."""

METHOD_NAMES: tuple[str, ...]
OUTCOME_NAMES: tuple[str, ...]
CAUSE_NAMES: tuple[str, ...]
