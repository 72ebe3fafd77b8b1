"""Whose licences are believed, and what a reload says."""

import dataclasses
from pathlib import Path

import pytest

from broker.app.address import Address
from broker.app.config import Config
from broker.app.licence_sources import Reloader, read_trust
from broker.errors import ConfigError
from broker.licence import FolderReading, LicenceFolder, TrustFile, create_vendor, issue_licence

NOW_UNIX_S = 1_800_000_000
THUMBPRINT = "A" * 43


def config_at(directory: Path, *, host: str = "127.0.0.1", allow_emulated: bool = False) -> Config:
    base = Config()
    return dataclasses.replace(
        base,
        broker=dataclasses.replace(base.broker, data_dir=directory),
        clients=dataclasses.replace(base.clients, address=Address(host, 7600), insecure=True),
        licences=dataclasses.replace(base.licences, allow_emulated=allow_emulated),
        source="usher.toml",
    )


def vendor_trusted_by(directory: Path, *, is_test: bool = False) -> None:
    vendor = create_vendor(directory / "vendor", "Acme", ["platform"], is_test=is_test)
    (directory / "trust.jwks.json").write_bytes(vendor.trust_path.read_bytes())


def test_without_a_trust_file_nobody_is_believed(tmp_path: Path) -> None:
    assert read_trust(config_at(tmp_path)) == TrustFile()


def test_trust_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    named = dataclasses.replace(config.licences, trust=(tmp_path / "none.json",))
    with pytest.raises(ConfigError, match=r"usher\.toml: licences\.trust: .*none\.json: cannot be read"):
        read_trust(dataclasses.replace(config, licences=named))


def test_every_fault_of_a_trust_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "trust.jwks.json").write_text('{"keys": [{}, {"kty": "RSA"}]}')
    with pytest.raises(ConfigError) as caught:
        read_trust(config_at(tmp_path))
    assert [fault.dotted for fault in caught.value.faults] == ["licences.trust", "licences.trust"]


def test_test_vendor_is_believed_on_this_machine(tmp_path: Path) -> None:
    vendor_trusted_by(tmp_path, is_test=True)
    assert read_trust(config_at(tmp_path)).has_test_vendor


def test_test_vendor_is_refused_where_other_machines_can_connect(tmp_path: Path) -> None:
    vendor_trusted_by(tmp_path, is_test=True)
    with pytest.raises(ConfigError, match=r"trusts a test vendor \(Acme\), whose EMULATED seats"):
        read_trust(config_at(tmp_path, host="0.0.0.0"))


def test_test_vendor_beyond_this_machine_is_allowed_in_so_many_words(tmp_path: Path) -> None:
    vendor_trusted_by(tmp_path, is_test=True)
    assert read_trust(config_at(tmp_path, host="0.0.0.0", allow_emulated=True)).has_test_vendor


def test_production_vendor_is_believed_everywhere(tmp_path: Path) -> None:
    vendor_trusted_by(tmp_path)
    assert len(read_trust(config_at(tmp_path, host="0.0.0.0")).entries) == 1


class Shelf:
    """A licence folder with a reloader over it, as the keyring would read it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "licences"
        self.directory.mkdir()
        self.vendor = create_vendor(directory / "vendor", "Acme", ["platform", "crm"])
        (directory / "trust.jwks.json").write_bytes(self.vendor.trust_path.read_bytes())
        self.reloader = Reloader(config_at(directory), self._read)
        self.reloader.begin(FolderReading())

    def _read(self, trust: TrustFile) -> FolderReading:
        return LicenceFolder(self.directory).read(trust)

    def put(self, name: str, licence_id: str, product: str, seats: int) -> None:
        document = issue_licence(
            self.vendor,
            licence_id=licence_id,
            product=product,
            seats=seats,
            thumbprint=THUMBPRINT,
            issued_unix_s=NOW_UNIX_S,
        )
        (self.directory / name).write_text(document)


def test_reload_says_what_came_what_went_and_what_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.put("a.jwt", "one", "platform", 5)
    assert list(shelf.reloader.reload()) == ["new: a.jwt: licence one, 5 seats of platform"]
    assert list(shelf.reloader.reload()) == []
    (shelf.directory / "a.jwt").unlink()
    shelf.put("b.jwt", "two", "crm", 3)
    (shelf.directory / "c.jwt").write_text("rubbish")
    new, gone, refused = shelf.reloader.reload()
    assert new == "new: b.jwt: licence two, 3 seats of crm"
    assert gone == "gone: a.jwt: licence one, 5 seats of platform"
    assert refused.startswith("refused: c.jwt: ")
    assert list(shelf.reloader.reload()) == []


def test_reload_with_a_wrong_trust_file_changes_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.put("a.jwt", "one", "platform", 5)
    shelf.reloader.reload()
    good = (tmp_path / "trust.jwks.json").read_bytes()
    (tmp_path / "trust.jwks.json").write_text("{")
    with pytest.raises(ConfigError):
        shelf.reloader.reload()
    (tmp_path / "trust.jwks.json").write_bytes(good)
    assert list(shelf.reloader.reload()) == []
