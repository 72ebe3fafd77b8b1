"""The vendor's side: key pairs that are never overwritten, and licences that no broker will refuse."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.licence import (
    Licence,
    Refusal,
    RefusalReason,
    TrustFile,
    Vendor,
    VendorError,
    create_vendor,
    inspect_licence,
    load_vendor,
)
from broker.licence.issue import PRIVATE_FILE

from .conftest import NOW_UNIX_S, THUMBPRINT

Make = Callable[..., str]


def test_the_private_key_is_readable_by_its_owner_only(vendor: Vendor) -> None:
    assert stat.S_IMODE(vendor.private_path.stat().st_mode) == 0o600
    assert b"PRIVATE" not in vendor.trust_path.read_bytes()


def test_a_vendor_is_the_same_after_loading(vendor: Vendor, issue: Make, trust: TrustFile) -> None:
    loaded = load_vendor(vendor.private_path.parent)
    assert loaded.entry.kid == vendor.entry.kid
    assert issue(loaded) == issue(vendor)


def test_an_existing_vendor_key_is_never_overwritten(vendor: Vendor) -> None:
    before = vendor.private_path.read_bytes()
    with pytest.raises(VendorError, match="never overwritten"):
        create_vendor(vendor.private_path.parent, "Acme", ["platform"])
    assert vendor.private_path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "products"), [("", ["p"]), ("a\nb", ["p"]), ("\ud800", ["p"]), ("Acme", []), ("Acme", ["*"])]
)
def test_a_vendor_with_a_wrong_scope_is_not_made(tmp_path: Path, name: str, products: list[str]) -> None:
    with pytest.raises(VendorError):
        create_vendor(tmp_path / "v", name, products)
    assert not (tmp_path / "v").exists()


def test_a_missing_vendor_is_named(tmp_path: Path) -> None:
    with pytest.raises(VendorError, match=PRIVATE_FILE):
        load_vendor(tmp_path)


def test_a_foreign_or_unusable_private_key_is_refused(vendor: Vendor, other_vendor: Vendor) -> None:
    directory = vendor.private_path.parent
    curve = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem, complaint in (
        (other_vendor.private_path.read_bytes(), "different keys"),
        (curve, "not an Ed25519 key"),
        (b"junk", "no usable private key"),
    ):
        vendor.private_path.write_bytes(pem)
        with pytest.raises(VendorError, match=complaint):
            load_vendor(directory)


@pytest.mark.parametrize(
    "points",
    [
        {"seats": 0},
        {"product": "fax"},
        {"thumbprint": "x"},
        {"licence_id": "a b"},
        {"expires_unix_s": NOW_UNIX_S},
        {"customer": "x" * 129},
        {"customer": "\ud800"},
    ],
)
def test_what_a_broker_would_refuse_is_not_issued(issue: Make, points: dict[str, Any]) -> None:
    with pytest.raises(VendorError, match="no broker would accept"):
        issue(**points)


def test_an_inspection_shows_every_claim_and_the_verdict(
    issue: Make, trust: TrustFile, vendor: Vendor
) -> None:
    document = issue(customer="Romashka", expires_unix_s=NOW_UNIX_S + 10)
    seen = inspect_licence(document, trust, NOW_UNIX_S)
    assert isinstance(seen.verdict, Licence)
    assert seen.header == {"alg": "EdDSA", "kid": vendor.entry.kid, "typ": "usher-licence+jwt"}
    assert seen.claims["cnf"] == {"jkt": THUMBPRINT}
    assert seen.claims["sub"] == "Romashka"


def test_an_inspection_shows_what_it_does_not_believe(issue: Make) -> None:
    seen = inspect_licence(issue(), TrustFile(), NOW_UNIX_S)
    assert seen.claims["seats"] == 10
    assert isinstance(seen.verdict, Refusal)
    assert seen.verdict.reason is RefusalReason.KID_UNKNOWN


@pytest.mark.parametrize("document", [b"", b"\xff\xff", "é", b"a.b.c", b"W10.W10.W10", b"x" * 100_000])
def test_an_inspection_of_garbage_is_empty_and_refused(trust: TrustFile, document: bytes | str) -> None:
    seen = inspect_licence(document, trust, NOW_UNIX_S)
    assert (dict(seen.header), dict(seen.claims)) == ({}, {})
    assert isinstance(seen.verdict, Refusal)
