"""An inspection: everything that a document says, believed or not, beside the verdict on it.

For a vendor or an admin who asks what is in a file. What is shown is the document's own word unless the verdict is a
licence; showing it changes nothing. Pure: any thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.licence import bounds
from broker.licence.document import Licence, verify
from broker.licence.refusal import Refusal
from broker.licence.strict import decode_base64url, parse_object
from broker.licence.trust import TrustFile


@dataclass(frozen=True, slots=True)
class Inspection:
    """`header` and `claims` as the document has them, empty where they cannot be read."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    verdict: Licence | Refusal


def inspect_licence(document: bytes | str, trust: TrustFile, now_unix_s: int) -> Inspection:
    """What a document says and whether it would count now. Never raises."""
    text = document if isinstance(document, str) else document.decode("ascii", errors="replace")
    parts = text.strip().split(".") if len(text) <= bounds.DOCUMENT_SIZE_MAX else []
    header, claims = [*parts, "", ""][:2]
    return Inspection(_members(header), _members(claims), verify(document, trust, now_unix_s))


def _members(part: str) -> Mapping[str, Any]:
    try:
        return parse_object(decode_base64url(part))
    except ValueError:
        return {}
