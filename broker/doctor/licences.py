"""Findings about licences: whom the broker believes, which licences end soon, and which do not count and why.

Read as the broker reads them, without keys: whether a licence's key is plugged in is for `usher licences`. The warnings come
as far ahead as the broker's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.app.config import Config
from broker.app.licence_sources import read_trust
from broker.doctor.finding import Finding, good, notice, trouble, warning
from broker.errors import ConfigError
from broker.licence import Licence, LicenceFolder, Period, Refusal, TrustFile, day, period_sentence
from broker.licence.refusal import RefusalReason

DAY_S = 86_400
WARN_DAYS = 30
HARMLESS = frozenset({RefusalReason.COPY, RefusalReason.REVOKED})
"""Refusals as somebody meant them."""


def licence_findings(config: Config, now_unix_s: int) -> Iterator[Finding]:
    """Everything about licences."""
    try:
        trust = read_trust(config)
    except ConfigError as error:
        for fault in error.faults:
            yield trouble("trust", fault.dotted, fault.reason, fault.remedy)
        return
    if not trust.entries:
        files = ", ".join(map(str, config.trust_files))
        yield warning("trust", "trust file", f"no vendor is trusted ({files}), so that no licence counts", "put the vendor's trust file there")
    if not config.licence_folder.exists():
        yield notice("licence", str(config.licence_folder), "is not there: only licences on keys count")
        return
    yield from folder_findings(LicenceFolder(config.licence_folder), trust, now_unix_s)


def folder_findings(folder: LicenceFolder, trust: TrustFile, now_unix_s: int) -> Iterator[Finding]:
    """One finding a licence."""
    reading = folder.read(trust)
    for licence in reading.accepted:
        yield _of_licence(licence, now_unix_s)
    for refusal in reading.refused:
        yield _of_refusal(refusal)
    if not reading.accepted and not reading.refused:
        yield notice("licence", str(folder.path), "is empty: only licences on keys count")


def _of_licence(licence: Licence, now_unix_s: int) -> Finding:
    subject = f"{licence.file} ({licence.seats} seats of {licence.product})"
    period = licence.period_at(now_unix_s)
    if period is Period.EXPIRED:
        return trouble("licence", subject, period_sentence(licence, period), f"get a new one from {licence.vendor}, then `usher reload`")
    if period is Period.NOT_YET_VALID:
        return notice("licence", subject, period_sentence(licence, period))
    if licence.expires_unix_s is None:
        return good("licence", subject, "is perpetual")
    left_days = (licence.expires_unix_s - now_unix_s) / DAY_S
    sentence = f"ends on {day(licence.expires_unix_s)}, in {left_days:.1f} days"
    if left_days > WARN_DAYS:
        return good("licence", subject, sentence)
    return warning("licence", subject, sentence, f"get its successor from {licence.vendor} in time")


def _of_refusal(refusal: Refusal) -> Finding:
    subject = refusal.file or "licences"
    if refusal.reason in HARMLESS:
        return notice("licence", subject, f"does not count: {refusal.sentence}")
    return trouble("licence", subject, f"does not count: {refusal.sentence}", "put right what it says, then `usher reload`")
