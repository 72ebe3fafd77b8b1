"""The vendor's side of revocation: the vendor's own list, which grows and whose number grows with it.

The vendor directory holds the newest list as `vendor.revocations`: no secret, but the only place that knows the number
given last, so it belongs into the vendor's backups beside `vendor.pem`. A list is always whole. The file is replaced in
one step, and an id once in it stays. Raises `VendorError`.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from broker.licence import bounds
from broker.licence.compact import REVOCATION_LIST, seal
from broker.licence.errors import VendorError
from broker.licence.issue import Vendor
from broker.licence.refusal import Refusal
from broker.licence.revocation import RevocationList, read_revocations

OWN_LIST_FILE: Final = "vendor.revocations"


def issue_revocations(vendor: Vendor, *, number: int, revoked: Iterable[str], issued_unix_s: int) -> str:
    """A signed list of all that a vendor revokes; a test vendor's is marked by itself."""
    claims: dict[str, Any] = {
        "iss": vendor.entry.vendor,
        "iat": issued_unix_s,
        "number": number,
        "revoked": sorted(set(revoked)),
    }
    if vendor.entry.is_test:
        claims["env"] = "test"
    payload = json.dumps(claims, separators=(",", ":")).encode()
    document = seal(payload, vendor.private, vendor.entry.kid, REVOCATION_LIST)
    verdict = read_revocations(document, vendor.trust)
    if isinstance(verdict, Refusal):
        raise VendorError(f"no broker would accept this list: {verdict.sentence}")
    return document


def own_list(vendor: Vendor) -> RevocationList | None:
    """The newest list in the vendor's directory; None while nothing was ever revoked."""
    path = own_list_path(vendor)
    try:
        with path.open("rb") as file:
            document = file.read(bounds.REVOCATION_LIST_SIZE_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VendorError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    verdict = read_revocations(document, vendor.trust)
    if isinstance(verdict, Refusal):
        raise VendorError(
            f"{path} is not this vendor's list: {verdict.sentence}; put it back from a backup, as only it knows the number"
            " given last",
            path=str(path),
        )
    return verdict


def own_list_path(vendor: Vendor) -> Path:
    """Where the newest list of a vendor lies."""
    return vendor.private_path.parent / OWN_LIST_FILE


def revoke_licences(vendor: Vendor, licence_ids: Iterable[str], issued_unix_s: int) -> RevocationList:
    """Adds licences to the vendor's list, under the next number; the list as it then is.

    Nothing is written, and no number used, if all of them are in the list already.
    """
    before = own_list(vendor)
    revoked = (before.revoked if before else frozenset()) | frozenset(licence_ids)
    if before is not None and revoked == before.revoked:
        return before
    number = before.number + 1 if before else 1
    document = issue_revocations(vendor, number=number, revoked=revoked, issued_unix_s=issued_unix_s)
    path = own_list_path(vendor)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(document + "\n")
        unfinished.replace(path)
    except OSError as error:
        raise VendorError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error
    verdict = read_revocations(document, vendor.trust)
    assert isinstance(verdict, RevocationList), "what was just issued was read back by issue_revocations"
    return verdict
