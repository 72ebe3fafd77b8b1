"""What the broker says while it runs: JSON lines for machines, short lines for a terminal; on standard error.

    {"time": "2026-01-31T09:05:02.123Z", "level": "info", "logger": "broker.app", "message": "serving", "clients": "127.0.0.1:7600"}
    09:05:02 serving  clients=127.0.0.1:7600

A message is constant text; what varies goes into facts: `log.info("serving", extra=facts(clients=...))`. Quiet: a
request is never a line. No secret is ever a fact: no session id, no token, no nonce.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, TextIO

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Libraries that say more than an admin wants to hear; pyusb also logs the errors that it raises.
QUIET_LOGGERS = {
    "uvicorn.error": logging.ERROR,  # its warnings are a line for each malformed request, as many as clients please
    "uvicorn.access": logging.WARNING,
    "asyncio": logging.WARNING,
    "grpc": logging.WARNING,
    "usb": logging.CRITICAL,
}


def facts(**values: Any) -> dict[str, Any]:
    """The `extra` of a log call."""
    return {"facts": values}


def set_up_logs(level: str, form: str, stream: TextIO | None = None) -> None:
    """Makes the root logger write to a stream in one of the forms of [log] format."""
    stream = stream or sys.stderr
    is_human = form == "human" or (form == "auto" and stream.isatty())
    writer = logging.StreamHandler(stream)
    writer.setFormatter(HumanLines() if is_human else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(LEVELS[level])
    for name, least in QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(max(LEVELS[level], least))


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        instant = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in _facts_of(record).items() if name not in line}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class HumanLines(logging.Formatter):
    """Time of day, message, facts; the level only from warning on."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, control characters escaped: names come from outside."""
        instant = datetime.datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        level = f"{record.levelname} " if record.levelno >= logging.WARNING else ""
        words = "  ".join(f"{name}={_shown(value)}" for name, value in _facts_of(record).items())
        line = f"{instant} {level}{_shown(record.getMessage())}" + (f"  {words}" if words else "")
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def _facts_of(record: logging.LogRecord) -> dict[str, Any]:
    found = getattr(record, "facts", {})
    return found if isinstance(found, dict) else {}


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else ascii(text)[1:-1]
