"""Licence documents: read, judged and issued; no clock, no key, no ledger.

Start at `document.py` (what a licence is), then `trust.py` (whom we believe) and `folder.py` (all of them together).
"""

from broker.licence.certificate import TokenFile, issue_certificate, read_token_file
from broker.licence.document import Licence, Period, day, in_period, period_sentence, read_licence, verify
from broker.licence.errors import LicenceError, TrustFileError, VendorError
from broker.licence.folder import FolderContent, FolderReading, LicenceFolder, judge
from broker.licence.inspection import Inspection, inspect_licence
from broker.licence.issue import Vendor, create_vendor, issue_licence, load_vendor
from broker.licence.on_key import Carried, examine_carried
from broker.licence.refusal import Refusal, RefusalReason
from broker.licence.revocation import RevocationFloor, RevocationList, Revocations, read_revocations
from broker.licence.revoke import issue_revocations, revoke_licences
from broker.licence.terms import LicenceTerms, Stacking, parse_terms, terms_claim
from broker.licence.trust import TrustEntry, TrustFile

__all__ = [
    "Carried",
    "FolderContent",
    "FolderReading",
    "Inspection",
    "Licence",
    "LicenceError",
    "LicenceFolder",
    "LicenceTerms",
    "Period",
    "Refusal",
    "RefusalReason",
    "RevocationFloor",
    "RevocationList",
    "Revocations",
    "Stacking",
    "TokenFile",
    "TrustEntry",
    "TrustFile",
    "TrustFileError",
    "Vendor",
    "VendorError",
    "create_vendor",
    "day",
    "examine_carried",
    "in_period",
    "inspect_licence",
    "issue_certificate",
    "issue_licence",
    "issue_revocations",
    "judge",
    "load_vendor",
    "parse_terms",
    "period_sentence",
    "read_licence",
    "read_revocations",
    "read_token_file",
    "revoke_licences",
    "terms_claim",
    "verify",
]
