"""What the tests of the whole client need: notices to await, a port that stays, a cable that can be pulled."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import suppress
from typing import Any

from broker.client import Notice, NoticeKind

WAIT_S = 20.0


class Notices:
    """A callback that keeps what it is told, to be awaited."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Notice] = queue.Queue()

    def __call__(self, notice: Notice) -> None:
        self._queue.put(notice)

    def next(self) -> Notice:
        """The next notice."""
        return self._queue.get(timeout=WAIT_S)

    def await_kind(self, kind: NoticeKind) -> Notice:
        """The next notice of a kind; others before it are passed over."""
        while (notice := self.next()).kind is not kind:
            pass
        return notice

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        return self._queue.empty()


def free_port() -> int:
    """A loopback port that was free just now: for a broker that must come back at the same address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cable:
    """A TCP relay to a broker. Pulled: its connections break and new ones are refused. Frozen: bytes just stop."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._is_pulled = False
        self._cuts_next_answer = False
        self.connection_count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: Any) -> None:
        self.thaw()
        self.pull()
        _hang_up(self._listener)

    def pull(self) -> None:
        """Breaks every connection; new ones break at once."""
        with self._lock:
            self._is_pulled = True
            broken, self._sockets = self._sockets, set()
        for one in broken:
            _hang_up(one)

    def plug(self) -> None:
        """Lets connections through again."""
        with self._lock:
            self._is_pulled = False

    def cut_next_answer(self) -> None:
        """What the broker says next is lost, and every connection with it."""
        self._cuts_next_answer = True

    def freeze(self) -> None:
        """Nothing flows and nothing breaks: a firewall that forgot us."""
        self._flows.clear()

    def thaw(self) -> None:
        """What was held back flows."""
        self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_pulled:
                    near.close()
                    continue
                self.connection_count += 1
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    near.close()
                    continue
                self._sockets |= {near, far}
            for source, sink, is_answer in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._relay, args=(source, sink, is_answer), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65536):
                self._flows.wait()
                if is_answer and self._cuts_next_answer:
                    self._cuts_next_answer = False
                    self.pull()
                    self.plug()
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the cable was pulled, or an end hung up: the other direction ends by itself


def _hang_up(one: socket.socket) -> None:
    """Shuts it first: closing alone wakes nobody who waits on it."""
    with suppress(OSError):  # the other end was quicker
        one.shutdown(socket.SHUT_RDWR)
    one.close()
