"""Vendors and licences for the tests of licence documents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.licence import LicenceTerms, TrustFile, Vendor, create_vendor, issue_licence

THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
NOW_UNIX_S = 1_800_000_000


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return create_vendor(tmp_path / "acme", "Acme", ["platform", "crm"])


@pytest.fixture
def other_vendor(tmp_path: Path) -> Vendor:
    return create_vendor(tmp_path / "rival", "Rival", ["fax"])


@pytest.fixture
def test_vendor(tmp_path: Path) -> Vendor:
    return create_vendor(tmp_path / "emulated", "Emulated Vendor", ["platform"], is_test=True)


@pytest.fixture
def trust(vendor: Vendor, other_vendor: Vendor, test_vendor: Vendor) -> TrustFile:
    return TrustFile.load(vendor.trust_path, other_vendor.trust_path, test_vendor.trust_path)


@pytest.fixture
def issue(vendor: Vendor) -> Callable[..., str]:
    """Issues a licence that is right in every point that the test does not name."""

    def issue_one(by: Vendor = vendor, terms: LicenceTerms | None = None, **points: Any) -> str:
        usual: dict[str, Any] = {
            "licence_id": "L-1",
            "product": "platform",
            "seats": 10,
            "thumbprint": THUMBPRINT,
            "issued_unix_s": NOW_UNIX_S,
        }
        return issue_licence(by, terms=terms, **(usual | points))

    return issue_one


@pytest.fixture
def forge(vendor: Vendor) -> Callable[..., str]:
    """Signs whatever is asked: claims and header as they come, with a vendor's genuine key."""
    import json

    from jwt import PyJWS

    def forge_one(
        claims: dict[str, Any] | bytes,
        header: dict[str, Any] | None = None,
        by: Vendor = vendor,
        drop: str = "",
    ) -> str:
        words = {"typ": "usher-licence+jwt", "kid": by.entry.kid} | (header or {})
        words.pop(drop, None)
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        if not words.get("typ"):
            words["typ"] = ""
        return PyJWS(algorithms=["EdDSA"]).encode(payload, key=by.private, algorithm="EdDSA", headers=words)

    return forge_one


def plain_claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good licence, some changed; a change to `...` takes the claim out."""
    claims: dict[str, Any] = {
        "iss": "Acme",
        "jti": "L-1",
        "iat": NOW_UNIX_S,
        "nbf": NOW_UNIX_S,
        "product": "platform",
        "seats": 10,
        "cnf": {"jkt": THUMBPRINT},
    } | changes
    return {name: value for name, value in claims.items() if value is not ...}
