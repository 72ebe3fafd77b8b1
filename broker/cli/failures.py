"""Any exception as one sentence and an exit code: a table, first match wins.

The sentence says what to do; where the error itself does not, the remedy is added here.
"""

from __future__ import annotations

import traceback

from broker.client import errors
from broker.errors import BrokerError
from broker.exit_codes import ExitCode

_CLIENT: tuple[tuple[type[errors.UsherError], ExitCode, str], ...] = (
    (errors.Denied, ExitCode.DENIED, ""),
    (errors.SessionLost, ExitCode.SESSION_LOST, ""),
    (errors.Unreachable, ExitCode.UNREACHABLE, "is it running, and is that its address? (--admin, --broker, --data-dir)"),
    (errors.NotAuthorised, ExitCode.REFUSED, "--data-dir or --token-file must lead to this broker's own admin.token"),
    (errors.UsherError, ExitCode.REFUSED, ""),
)


def explain(error: Exception) -> tuple[str, int]:
    """What to tell a person, and the exit code."""
    if isinstance(error, BrokerError):
        return str(error), error.exit_code
    for kind, code, remedy in _CLIENT:
        if isinstance(error, kind):
            # A broker that answers with a reason is running, and is the right one.
            said = getattr(error, "reason", "") if isinstance(error, errors.Unreachable) else ""
            return _with(str(error), "" if said else remedy), code
    if _is_licence_error(error):
        return str(error), ExitCode.CONFIG
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", ExitCode.CONFIG
    traceback.print_exception(error)
    return "this is a bug of usher; please report it with the lines above", ExitCode.OUR_BUG


def _with(sentence: str, remedy: str) -> str:
    return f"{sentence}; {remedy}" if remedy else sentence


def _is_licence_error(error: Exception) -> bool:
    """Told by module, so that reaching a broker does not load the licence reader and its cryptography."""
    return any(kind.__module__ == "broker.licence.errors" for kind in type(error).__mro__)
