"""What of a start can fail without the data directory, tried before a running broker is asked to end for this one.

Libraries, certificates, trust files, compiled modules, memory for the bounds: each raises as it would at the start itself. What it builds is thrown away. What only
the data directory can tell (a damaged log) is not tried here, because another broker is writing there.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import asdict

from broker.app.certificates import Certificates
from broker.app.config import Config
from broker.app.data_directory import BROKER_ID_SIZE, SECRET_SIZE
from broker.app.licence_sources import read_trust
from broker.errors import CompiledPartsMissing, ConfigError, ConfigFault

LOADED_LATE = ("grpc", "starlette", "uvicorn", "prometheus_client", "apsw")
"""Libraries that are not loaded before the first grant: an install without one is told at once all the same."""


def try_without_directory(config: Config) -> None:
    """ConfigError, CompiledPartsMissing, ModuleNotFoundError."""
    _try_libraries()
    Certificates(config)
    read_trust(config)
    _try_modules()
    _try_memory(config)


def _try_libraries() -> None:
    for name in LOADED_LATE:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _try_modules() -> None:
    try:
        importlib.import_module("broker._journal")
    except ImportError as error:
        raise CompiledPartsMissing(str(error)) from error


def _try_memory(config: Config) -> None:
    from broker._ledger import Ledger

    try:
        Ledger(broker_id=bytes(BROKER_ID_SIZE), secret=bytes(SECRET_SIZE), generation=1, start_ns=0, **asdict(config.bounds))
    except (ValueError, MemoryError) as error:
        reason = f"the ledger cannot be built so large: {error or 'not enough memory'}"
        raise ConfigError((ConfigFault(config.source, "bounds", reason, "write smaller bounds"),)) from error
