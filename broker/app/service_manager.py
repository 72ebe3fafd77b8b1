"""What systemd is told of the broker, and how it learns that the broker is stuck: sd_notify(3) in a few lines, without its library.

    READY=1 once all three ports are served · STATUS= a line for `systemctl status` · RELOADING=1 around SIGHUP
    STOPPING=1 when the shutdown begins · WATCHDOG=1 as long as the event loop runs and the watched parts move

Without NOTIFY_SOCKET nothing is said to anybody. A datagram that cannot be sent is dropped: who does not listen harms nobody.
The variables are taken away, so that no child speaks for the broker. Event loop's thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, MutableMapping

PULSES_PER_LIMIT = 3
"""How often within the watchdog's limit the broker says that it lives."""


class ServiceManager:
    """The service manager of this process, if it has one."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._where = _where(environment.pop("NOTIFY_SOCKET", ""))
        limit_us, process = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        is_mine = process in ("", str(os.getpid()))
        self._limit_s = int(limit_us) / 1e6 if limit_us.isdigit() and is_mine else 0.0

    @property
    def is_there(self) -> bool:
        """Whether a service manager runs this broker and wants to hear of it."""
        return bool(self._where)

    def say_ready(self, status: str) -> None:
        """All is served."""
        self._say("READY=1", f"STATUS={status}")

    def say_status(self, status: str) -> None:
        """A line for people."""
        self._say(f"STATUS={status}")

    def say_reloading(self) -> None:
        """Files are being read again; `say_ready` when that is done."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def say_stopping(self, cause: str) -> None:
        """The shutdown has begun."""
        self._say("STOPPING=1", f"STATUS=stopping: {cause}")

    async def watch(self, is_moving: Callable[[], bool]) -> None:
        """Says that the broker lives until it is cancelled, but not while `is_moving` is False: then systemd restarts it. Ends at once without
        a watchdog."""
        while self._limit_s and self.is_there:
            if is_moving():
                self._say("WATCHDOG=1")
            await asyncio.sleep(self._limit_s / PULSES_PER_LIMIT)

    def _say(self, *lines: str) -> None:
        if not self._where:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
            speaker.setblocking(False)
            try:
                speaker.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), self._where)
            except OSError:
                return


def _where(text: str) -> str:
    """The socket's address as Python has it; @ stands for the abstract names of Linux. Empty: there is none that we know."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""
