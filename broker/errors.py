"""The errors of the broker's own process, split by who must act: one tree, facts as attributes.

Each says in one or two sentences what is wrong and what to do about it; the command line prints the sentence and ends
with the error's exit code. Requests of client apps never end here: they get denials and statuses.
Licence documents, security keys and the client library have trees of their own (`broker.licence.errors`,
`hwkey.errors`, `broker.client`), because they are used without the broker.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from broker.exit_codes import ExitCode


class BrokerError(Exception):
    """Root. `str()` is for a person; `exit_code` is what a command that fails with it ends with."""

    exit_code: ClassVar[ExitCode] = ExitCode.OUR_BUG


# --- the admin's: something written down is wrong ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One thing that is wrong: `dotted` names the entry ("clients.address"), empty for the file as a whole."""

    file: str
    dotted: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.dotted}" if self.dotted else self.file
        return f"{where}: {self.reason}" + (f"; {self.remedy}" if self.remedy else "")


class ConfigError(BrokerError):
    """A configuration that cannot be used; every fault in it, in the order of the file."""

    exit_code = ExitCode.CONFIG

    def __init__(self, faults: tuple[ConfigFault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class CompiledPartsMissing(BrokerError):
    """This install has no compiled ledger: it can be a client, but not a broker."""

    exit_code = ExitCode.COMPILED_PARTS_MISSING

    def __init__(self, cause: str) -> None:
        super().__init__(
            "this install of usher has no compiled parts, so it can be a client but not a broker: install a wheel for this"
            f" platform, or a C compiler and then `pip install --no-binary usher-broker 'usher-broker[broker]'` ({cause})"
        )


# --- the machine's: somewhere else or in the data directory something stands in the way --------------------------


class DataDirectoryError(BrokerError):
    """The data directory cannot be used as it is."""

    exit_code = ExitCode.DATA_DIRECTORY

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: {reason}; {remedy}")
        self.path = path


class AlreadyRunning(DataDirectoryError):
    """Another broker serves this data directory. `pid` is 0 if it could not be read."""

    def __init__(self, path: Path, pid: int) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            path, f"another broker ({who}) uses this data directory", "stop it first, or give this one another --data-dir"
        )
        self.pid = pid


class AddressInUse(BrokerError):
    """A port that this broker wants is taken. `option` is the entry that chooses another."""

    exit_code = ExitCode.ADDRESS_IN_USE

    def __init__(self, address: str, option: str, cause: str) -> None:
        super().__init__(
            f"{option}: cannot listen on {address}: {cause}; stop what uses it, or choose another address there"
        )
        self.address = address
        self.option = option


# --- ours ---------------------------------------------------------------------------------------------------------


class InternalFault(BrokerError):
    """A part of the broker stopped that never should. `part` names it."""

    exit_code = ExitCode.PART_FAILED

    def __init__(self, part: str, cause: BaseException) -> None:
        super().__init__(f"{part} failed: {cause!r}; the broker stops, please report this with its log")
        self.part = part
