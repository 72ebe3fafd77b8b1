"""An inspection: everything that a document says, believed or not, beside the verdict on it.

For a vendor or an admin who asks what is in a file: a licence, or a revocation list. What is shown is the document's own word unless the verdict is no
refusal; showing it changes nothing. Pure: any thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.licence import bounds
from broker.licence.compact import REVOCATION_LIST
from broker.licence.document import Licence, verify
from broker.licence.on_key import refused_on_key
from broker.licence.refusal import Refusal
from broker.licence.revocation import RevocationList, read_revocations
from broker.licence.strict import decode_base64url, parse_object
from broker.licence.trust import TrustFile


@dataclass(frozen=True, slots=True)
class Inspection:
    """`header` and `claims` as the document has them, empty where they cannot be read."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    verdict: Licence | RevocationList | Refusal


def inspect_licence(
    document: bytes | str, trust: TrustFile, now_unix_s: int, *, on_key: str = ""
) -> Inspection:
    """What a document says and whether it would count now; `on_key`: the thumbprint of the key that it lies on, if it
    does. Never raises."""
    text = document if isinstance(document, str) else document.decode("ascii", errors="replace")
    parts = text.strip().split(".") if len(text) <= bounds.REVOCATION_LIST_SIZE_MAX else []
    header, claims = (_members(part) for part in [*parts, "", ""][:2])
    if header.get("typ") == REVOCATION_LIST.type:
        return Inspection(header, claims, read_revocations(document, trust))
    verdict = verify(document, trust, now_unix_s)
    if on_key and isinstance(verdict, Licence) and verdict.thumbprint != on_key:
        verdict = refused_on_key(verdict)
    if len(text) > bounds.DOCUMENT_SIZE_MAX:
        return Inspection({}, {}, verdict)
    return Inspection(header, claims, verdict)


def _members(part: str) -> Mapping[str, Any]:
    try:
        return parse_object(decode_base64url(part))
    except ValueError:
        return {}
