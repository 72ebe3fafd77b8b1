"""What cannot be built says which setting is to blame."""

import dataclasses
from pathlib import Path

import pytest

from broker.app import core, foundation
from broker.app.config import Config, JournalSection
from broker.app.data_directory import opened
from broker.errors import ConfigError
from hwkey import BackendMissing


def failing(*_: object, **__: object) -> None:
    raise MemoryError


def test_bounds_beyond_the_memory_of_the_machine_are_a_fault_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foundation, "Ledger", failing)
    with opened(tmp_path) as directory, pytest.raises(ConfigError, match="bounds: the ledger cannot be built so large"):
        foundation.build_ledger(Config(), directory, is_lossy=True)


def test_without_libusb_there_are_no_real_keys_and_the_keyring_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise BackendMissing

    monkeypatch.setattr(core, "open_libusb_bus", missing)
    config = dataclasses.replace(
        Config(), broker=dataclasses.replace(Config().broker, data_dir=tmp_path), journal=JournalSection(durability="none")
    )
    with opened(tmp_path) as directory, foundation.founded(config, directory) as ground:
        keyring = core.build_core(config, directory, None, ground, lambda _: None).keyring
    keyring.start()
    try:
        assert keyring.await_started(10)
        views = keyring.views()
        assert not views.keys
        assert ["apt install libusb-1.0-0" in fault for fault in views.faults] == [True]
    finally:
        keyring.stop()
