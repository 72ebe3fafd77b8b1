"""What the entries of a configuration must say together: one small function a rule.

Each rule yields faults; none looks at files. The reasons for the network rules: `design.md` 5, `semantics.md` 33.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from broker.app.config import Config
from broker.errors import ConfigFault

# A key is asked again when a proof is about to end, and one failed answer must not cost seats.
PROOF_MARGIN = 1.5
# The one that is written, the spare one, and two snapshots' remains.
SEGMENTS_BESIDE = 4


def broken_rules(config: Config) -> tuple[ConfigFault, ...]:
    """Every rule that a configuration breaks, in the order of the rules."""
    return tuple(
        ConfigFault(config.source, dotted, reason, remedy)
        for rule in RULES
        for dotted, reason, remedy in rule(config)
    )


_Breach = tuple[str, str, str]


def _tls_beyond_loopback(config: Config) -> Iterator[_Breach]:
    for name, listener in config.listeners():
        if not listener.address.is_loopback and listener.tls is None and not listener.insecure:
            yield (
                f"{name}.address",
                f"{listener.address} can be reached from other machines, and [{name}] has no TLS",
                f"write {name}.tls, or a loopback address, or insecure = true in [{name}] if you know what it means",
            )


def _hosts_for_every_interface(config: Config) -> Iterator[_Breach]:
    if config.http.address.is_every_interface and not config.http.hosts:
        yield (
            "http.hosts",
            f"is empty, so that nobody could use {config.http.address} from another machine",
            'write the names that clients use, such as hosts = ["usher.example"]',
        )


def _separate_addresses(config: Config) -> Iterator[_Breach]:
    seen: dict[object, str] = {}
    for name, listener in config.listeners():
        if listener.address.port and listener.address in seen:
            yield f"{name}.address", f"is the same as {seen[listener.address]}.address", "choose another port"
        seen.setdefault(listener.address, name)


def _emulation_beyond_loopback(config: Config) -> Iterator[_Breach]:
    if config.emulation.enabled and config.is_beyond_this_machine and not config.licences.allow_emulated:
        yield (
            "emulation.enabled",
            "would give EMULATED seats to other machines",
            "use loopback addresses, or write allow_emulated = true in [licences] for a test network",
        )


def _proofs_outlast_intervals(config: Config) -> Iterator[_Breach]:
    least_s = config.keys.prove_interval_s * PROOF_MARGIN
    if config.keys.proof_ttl_s < least_s:
        yield (
            "keys.proof_ttl_s",
            f"{config.keys.proof_ttl_s:g} s is too short for prove_interval_s = {config.keys.prove_interval_s:g}: seats"
            " would come and go",
            f"write at least {least_s:g}, or a shorter prove_interval_s",
        )


def _some_keys(config: Config) -> Iterator[_Breach]:
    if not config.uses_usb and not config.emulation.enabled:
        yield (
            "keys.usb",
            "is false and no keys are emulated, so there would be no seats at all",
            "write usb = true, or emulation.enabled = true",
        )


def _log_has_room(config: Config) -> Iterator[_Breach]:
    journal = config.journal
    least = 2 * journal.snapshot_after_size + SEGMENTS_BESIDE * journal.segment_size
    if journal.log_size_max < least:
        yield (
            "journal.log_size_max",
            f"{journal.log_size_max} is too small for snapshot_after_size = {journal.snapshot_after_size} and segments of"
            f" {journal.segment_size}: the log would be full before a snapshot could make room",
            f"write at least {least}, or smaller ones of these",
        )


def _one_directory_one_thing(config: Config) -> Iterator[_Breach]:
    if config.journal_folder.absolute() in (config.data_dir.absolute(), config.licence_folder.absolute()):
        yield (
            "journal.folder",
            f"{config.journal_folder} is the data directory, or the licence folder",
            "write a directory that holds nothing else",
        )


RULES: tuple[Callable[[Config], Iterator[_Breach]], ...] = (
    _tls_beyond_loopback,
    _hosts_for_every_interface,
    _separate_addresses,
    _emulation_beyond_loopback,
    _proofs_outlast_intervals,
    _some_keys,
    _log_has_room,
    _one_directory_one_thing,
)
