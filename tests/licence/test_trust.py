"""Trust files: the scope of a vendor's key, and faults that are named exactly."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.licence import TrustFile, TrustFileError, Vendor


def entry(vendor: Vendor, **changes: Any) -> dict[str, Any]:
    (members,) = json.loads(vendor.trust_path.read_text())["keys"]
    return {name: value for name, value in (members | changes).items() if value is not ...}


def parse(*entries: object) -> TrustFile:
    return TrustFile.parse(json.dumps({"keys": entries}).encode(), "trust.json")


def test_an_entry_says_whose_it_is_and_what_it_may_license(vendor: Vendor, test_vendor: Vendor) -> None:
    trust = TrustFile.load(vendor.trust_path, test_vendor.trust_path)
    found = trust.entry(vendor.entry.kid)
    assert found is not None
    assert (found.vendor, found.products, found.is_test) == ("Acme", frozenset({"platform", "crm"}), False)
    assert trust.has_test_vendor
    assert not vendor.trust.has_test_vendor
    assert trust.entry("nobody") is None


def test_the_key_of_rfc_8037_appendix_a_is_read() -> None:
    members = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "usher_vendor": "RFC",
        "usher_products": ["platform"],
    }
    assert parse(members).entries[0].public_raw.hex().startswith("d75a980182b10ab7")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kty": "EC"}, '"kty"'),
        ({"crv": "Ed448"}, '"crv"'),
        ({"use": "enc"}, '"use"'),
        ({"alg": "ES256"}, '"alg"'),
        ({"x": "AAAA"}, '"x"'),
        ({"x": 7}, '"x"'),
        ({"x": ...}, '"x" is missing'),
        ({"kid": ...}, '"kid" is missing'),
        ({"kid": "a b"}, '"kid"'),
        ({"d": "secret"}, "PRIVATE"),
        ({"usher_vendor": ...}, '"usher_vendor" is missing'),
        ({"usher_vendor": "a\nb"}, '"usher_vendor"'),
        ({"usher_products": ...}, '"usher_products" is missing'),
        ({"usher_products": []}, '"usher_products"'),
        ({"usher_products": ["*"]}, '"*"'),
        ({"usher_products": "platform"}, '"usher_products"'),
        ({"usher_env": "prod"}, '"usher_env"'),
        ({"usher_product": ["platform"]}, '"usher_product" is unknown'),
    ],
)
def test_a_wrong_entry_is_named_with_file_position_and_member(
    vendor: Vendor, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(TrustFileError) as caught:
        parse(entry(vendor, **changes))
    (fault,) = caught.value.faults
    assert fault.startswith("trust.json: keys[0]")
    assert named in fault


def test_all_faults_are_named_at_once(vendor: Vendor) -> None:
    with pytest.raises(TrustFileError) as caught:
        parse(entry(vendor, kty="EC"), 7, entry(vendor, x="?"))
    assert [fault.split(":")[1].split()[0] for fault in caught.value.faults] == [
        "keys[0]",
        "keys[1]",
        "keys[2]",
    ]


def test_one_kid_twice_is_refused(vendor: Vendor, other_vendor: Vendor) -> None:
    with pytest.raises(TrustFileError, match="twice"):
        parse(entry(vendor), entry(other_vendor, kid=vendor.entry.kid))


def test_one_vendor_key_with_two_scopes_is_refused(vendor: Vendor) -> None:
    with pytest.raises(TrustFileError, match="one vendor key under two names"):
        parse(entry(vendor), entry(vendor, kid="alias", usher_env="test"))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b'{"keys": [], "keys": []}', b"x" * 300_000]
)
def test_a_file_that_is_no_jwk_set_is_refused(data: bytes) -> None:
    with pytest.raises(TrustFileError, match=r"trust\.json"):
        TrustFile.parse(data, "trust.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrustFileError, match=r"nowhere\.json: cannot be read"):
        TrustFile.load(tmp_path / "nowhere.json")


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_trust_file_error(data: bytes) -> None:
    with pytest.raises(TrustFileError):
        TrustFile.parse(data)
