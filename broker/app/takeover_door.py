"""The door of a running broker: where its successor knocks, and `usher backup` asks what is committed.

A unix socket in the data directory. Whoever comes is known by the kernel's word (SO_PEERCRED): the broker's own user may take over, root may
ask. The order of a take-over stands at the head of takeover.py. A door that cannot be made (a read-only disk) is said and missed, nothing else.
Event loop's thread, `hand_over` after the loop has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import broker
from broker.app.logs import facts
from broker.app.takeover import (
    ANSWER_S,
    COMMITTED,
    DIRECTORY,
    DOOR_FILE,
    MESSAGE_SIZE_MAX,
    TAKEOVER,
    SuccessorGone,
    door_path,
    message,
    send,
    user_of,
)

log = logging.getLogger("broker.app")

VISITORS_MAX = 8
DECIDING_S = 60.0
"""How long a successor that was given the sockets may take until it wants the directory; it has nothing left to do."""


class TakeoverDoor:
    """Answers at the door of one data directory. `on_takeover` is told once, by whom: then the broker must end and `hand_over`."""

    def __init__(
        self,
        data_dir: Path,
        sockets: Mapping[str, socket.socket],
        on_takeover: Callable[[str], None],
        committed: Callable[[], int | None],
        refusal: str = "",
    ) -> None:
        """`refusal`: why this broker is never taken over; empty: it may be."""
        self._data_dir = data_dir
        self._sockets = dict(sockets)
        self._on_takeover = on_takeover
        self._committed = committed
        self._refusal = refusal
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._successor: socket.socket | None = None

    @property
    def has_successor(self) -> bool:
        """Whether somebody waits for the directory."""
        return self._successor is not None

    def open(self) -> None:
        """Answers from now on."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            listening.setblocking(False)
            os.fchmod(listening.fileno(), 0o600)  # what it will be made with: there is no instant at which others may enter
            self._remove()
            with door_path(self._data_dir) as path:
                listening.bind(path)
            listening.listen(VISITORS_MAX)
        except OSError as error:
            listening.close()
            log.warning("no door for a take-over or a backup", extra=facts(cause=str(error)))
            return
        self._listening = listening
        self._keep(asyncio.create_task(self._welcome(listening), name="usher-door"))

    async def close(self) -> None:
        """Answers nobody any more; a successor waits on."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._listening is not None:
            self._listening.close()
            self._remove()

    def hand_over(self, lock: int) -> None:
        """Gives the lock to the successor, if one waits, once nothing of this broker uses the directory. SuccessorGone."""
        if self._successor is None:
            return
        with self._successor as successor:
            successor.settimeout(ANSWER_S)
            try:
                send(successor, {"yours": DIRECTORY}, [lock])
            except OSError as error:
                raise SuccessorGone(error) from error
        log.info("handed over")

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            (self._data_dir / DOOR_FILE).unlink()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _welcome(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            visitor, _ = await loop.sock_accept(listening)
            if len(self._tasks) > VISITORS_MAX:
                visitor.close()
            else:
                self._keep(asyncio.create_task(self._serve(visitor), name="usher-door-visitor"))

    async def _serve(self, visitor: socket.socket) -> None:
        """One visitor, to the end of its visit; a successor's socket is kept."""
        try:
            async with asyncio.timeout(ANSWER_S):
                wanted = await self._next(visitor)
            if wanted.get("wants") == COMMITTED:
                self._tell_committed(visitor)
            elif wanted.get("wants") == TAKEOVER:
                await self._negotiate(visitor, wanted)
        except (OSError, TimeoutError) as error:
            log.debug("a visitor left the door", extra=facts(cause=repr(error)))
        finally:
            if visitor is not self._successor:
                visitor.close()

    def _tell_committed(self, visitor: socket.socket) -> None:
        if user_of(visitor) in (0, os.geteuid()):
            send(visitor, {"committed": self._committed()})

    async def _negotiate(self, visitor: socket.socket, wanted: Mapping[str, Any]) -> None:
        if reason := self._objection(visitor):
            log.warning("a take-over is refused", extra=facts(reason=reason))
            send(visitor, {"is_agreed": False, "reason": reason})
            return
        descriptors = [one.fileno() for one in self._sockets.values()]
        answer = {"is_agreed": True, "pid": os.getpid(), "version": broker.__version__, "sockets": list(self._sockets)}
        send(visitor, answer, descriptors)
        async with asyncio.timeout(DECIDING_S):
            decided = await self._next(visitor)
        if decided.get("wants") == DIRECTORY and self._successor is None:
            self._successor = visitor
            self._on_takeover(f"taken over by process {wanted.get('pid')}, version {wanted.get('version')}")

    def _objection(self, visitor: socket.socket) -> str:
        if user_of(visitor) != os.geteuid():
            return "another user may not take over: its files would be that user's"
        if self._successor is not None:
            return "it is being taken over already"
        return self._refusal

    async def _next(self, visitor: socket.socket) -> dict[str, Any]:
        visitor.setblocking(False)
        return message(await asyncio.get_running_loop().sock_recv(visitor, MESSAGE_SIZE_MAX))
