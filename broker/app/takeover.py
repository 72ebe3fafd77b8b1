"""Taking over from a running broker: what the new process does, and the words that both speak.

`usher serve --takeover`, in this order; P is the broker that runs, S its successor:

     1  S  reads configuration, certificates and trust, tries modules and memory: whatever can fail without the data directory fails here
     2  S  asks at P's door (`takeover.sock` in the data directory, 0600; both sides must be one user); P says yes and passes its listening sockets
     3  S  says "directory". Until here P serves as if nothing were, and goes on if S ends
     4  P  health says stopping; no new connection is accepted: from now on they queue at the sockets
     5  P  GOAWAY, held answers leave, calls under way end
     6  P  closes its keys (USB), says the run's end, commits, closes the log
     7  P  passes the lock of the data directory, still locked, and exits with 0
     8  S  starts as always: generation, recovery, keys; and accepts what has queued once its keys have been tried

A crash on the way: of P, at any step from 3 on, gives S the lock and a crash's recovery, and the sockets are with S already. Of S before 3: nothing
has happened. Of S after 3: P ends in order, with a status that is not 0, and says that nobody took over; somebody must start a broker.

Messages are datagrams of a SOCK_SEQPACKET, JSON, with descriptors beside them (SCM_RIGHTS). This side blocks and runs in the
main thread before any other thread exists. The other side is takeover_door.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import broker
from broker.app.data_directory import LOCK_FILE
from broker.app.logs import facts
from broker.app.socket_activation import PREDECESSOR, GivenSocket, GivenSockets, sockets_of_systemd
from broker.errors import BrokerError, DataDirectoryError
from broker.exit_codes import ExitCode

log = logging.getLogger("broker.app")

DOOR_FILE = "takeover.sock"
MESSAGE_SIZE_MAX = 4096
DESCRIPTORS_MAX = 8
ANSWER_S = 10.0
DYING_S = 0.01
LETTING_GO_S = 150.0
"""How long the predecessor may take from step 3 to step 7: the sum of the limits of its shutdown, and more."""

TAKEOVER, DIRECTORY, COMMITTED = "takeover", "directory", "committed"
CREDENTIALS = struct.Struct("3i")


class TakeoverRefused(DataDirectoryError):
    """The running broker does not let itself be taken over, or does not let go. It serves on, unless the sentence says otherwise."""


class SuccessorGone(BrokerError):
    """A broker has ended for its successor, which has ended too: nobody serves."""

    exit_code = ExitCode.PART_FAILED

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"the broker that was to take over has ended ({cause}), and this one has stopped for it; start a broker")


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a broker starts with beside its data directory. Without a predecessor: perhaps sockets, and no lock."""

    sockets: GivenSockets = field(default_factory=GivenSockets)
    lock: int | None = None
    """Of the data directory, locked already."""
    predecessor: int = 0
    """Its process, if this is a take-over: it has just let go."""


def inherit(data_dir: Path, *, is_takeover: bool) -> Inheritance:
    """Steps 2 to 7 if a broker runs and is to be taken over; else what systemd passes. TakeoverRefused, ConfigError."""
    given = sockets_of_systemd()
    connection = _at_door(data_dir) if is_takeover else None
    if connection is None:
        if is_takeover:
            log.info("no broker runs here: nothing to take over", extra=facts(data_dir=str(data_dir)))
        return Inheritance(given)
    with connection:
        return _succeed(data_dir, connection)


def ask_committed(data_dir: Path) -> int | None:
    """The log position up to which a running broker has committed; None if none runs there or it does not journal."""
    connection = _at_door(data_dir)
    if connection is None:
        return None
    with connection:
        send(connection, {"wants": COMMITTED})
        answer, _ = _received(connection, data_dir, "to say what it has committed")
    committed = answer.get("committed")
    return committed if isinstance(committed, int) else None


def _succeed(data_dir: Path, connection: socket.socket) -> Inheritance:
    send(connection, {"wants": TAKEOVER, "pid": os.getpid(), "version": broker.__version__})
    answer, descriptors = _received(connection, data_dir, "to be taken over")
    names = answer.get("sockets", [])
    if not answer.get("is_agreed") or len(names) != len(descriptors):
        _close_all(descriptors)
        raise TakeoverRefused(data_dir, f"the broker that runs refuses: {answer.get('reason')}", "see docs/OPERATING")
    sockets = GivenSockets([GivenSocket(*pair) for pair in zip(names, map(_socket, descriptors), strict=True)], PREDECESSOR)
    predecessor = int(answer.get("pid", 0))
    log.info("taking over", extra=facts(predecessor=predecessor, version=answer.get("version"), sockets=names))
    return Inheritance(sockets, _lock(data_dir, connection, predecessor), predecessor)


def _lock(data_dir: Path, connection: socket.socket, predecessor: int) -> int | None:
    """Step 3 to 7. None if the predecessor died: then its lock is free by the time that it has gone."""
    connection.settimeout(LETTING_GO_S)
    try:
        send(connection, {"wants": DIRECTORY})
        data, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_SIZE_MAX, DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC)
    except TimeoutError:
        reason = f"the broker that runs (process {predecessor}) does not let go of it within {LETTING_GO_S:.0f} s"
        raise TakeoverRefused(data_dir, reason, "look at its log; end it, and start this one without --takeover") from None
    except OSError:
        data, descriptors = b"", []
    if data and len(descriptors) == 1:
        return descriptors[0]
    _close_all(descriptors)
    log.warning("the broker before this one ended without handing over: recovering as from a crash", extra=facts(pid=predecessor))
    return _freed(data_dir / LOCK_FILE)


def _freed(path: Path) -> int | None:
    """The lock of a process that is just dying: its descriptors are closed one after another, this one's perhaps last. None if it stays held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    end_s = time.monotonic() + ANSWER_S
    while time.monotonic() < end_s:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        time.sleep(DYING_S)
    os.close(descriptor)
    return None


def _at_door(data_dir: Path) -> socket.socket | None:
    """A connection to the broker that runs; None if none does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    connection.settimeout(ANSWER_S)
    try:
        with door_path(data_dir) as path:
            connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise TakeoverRefused(data_dir / DOOR_FILE, f"cannot be reached: {error}", "be the user that runs the broker") from error
    return connection


def _received(connection: socket.socket, data_dir: Path, what: str) -> tuple[dict[str, Any], list[int]]:
    try:
        data, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_SIZE_MAX, DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise TakeoverRefused(data_dir, f"the broker that runs does not answer when asked {what}: {error}", "look at its log") from error
    return message(data), descriptors


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)


def _close_all(descriptors: Sequence[int]) -> None:
    for one in descriptors:
        os.close(one)


# --- the words of both sides ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def door_path(data_dir: Path) -> Iterator[str]:
    """The door as a path that fits into a unix socket's address (107 bytes), however long the data directory's is."""
    descriptor = os.open(data_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{DOOR_FILE}"
    finally:
        os.close(descriptor)


def send(connection: socket.socket, members: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """One message. OSError."""
    socket.send_fds(connection, [json.dumps(members).encode()], list(descriptors), socket.MSG_NOSIGNAL)


def message(data: bytes) -> dict[str, Any]:
    """What a message says; nothing if it is none."""
    try:
        members = json.loads(data)
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def user_of(connection: socket.socket) -> int:
    """The user of the process at the other end, as the kernel saw it when it connected."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(credentials)[1])
