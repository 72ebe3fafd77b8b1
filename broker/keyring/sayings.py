"""What the keyring says in the broker's log, and how loud.

Arrivals and losses of keys are for an admin, and what never gets to be a key; the steps between are not. Of licences: what is
refused, set aside, near its end, revoked. Facts go beside the message, as `extra={"facts": ...}`.
"""

import logging
from collections.abc import Mapping

from broker.keyring.core import KeyChange
from broker.keyring.periods import NoticeKind, PeriodNotice, left_in_words
from broker.keyring.remembered import Remembered
from broker.keyring.states import KeyState
from broker.licence import FolderReading, Licence, day

_log = logging.getLogger("broker.keyring")


def say_reading(before: FolderReading, after: FolderReading) -> None:
    """Lists that are new, and refusals that were not there before."""
    known = {one.digest for one in before.revocations.lists}
    for one in after.revocations.lists:
        if one.digest not in known:
            details = {"vendor": one.vendor, "number": one.number, "revoked": len(one.revoked), "file": one.file}
            _log.info("revocation list read", extra={"facts": details})
    for refusal in after.refused:
        if refusal not in before.refused:
            _log.warning("licence refused (%s): %s", refusal.reason, refusal)


def say_set_aside(licences: tuple[Licence, ...], before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Seats that were paid for and do not count, once for each key that displaces them."""
    for licence in licences:
        larger = after.get(licence.digest, "")
        if larger and before.get(licence.digest) != larger:
            details = {"licence": licence.licence_id, "product": licence.product, "seats": licence.seats}
            details |= {"thumbprint": licence.thumbprint, "counts_instead": larger}
            _log.warning("licence set aside: of its series one key a host counts", extra={"facts": details})


def say_notice(notice: PeriodNotice) -> None:
    """A licence begins, is near its end, or has ended."""
    licence = notice.licence
    details = {"licence": licence.licence_id, "product": licence.product, "seats": licence.seats}
    details |= {"vendor": licence.vendor, "until": day(licence.expires_unix_s) if licence.expires_unix_s else "no end"}
    if notice.kind is NoticeKind.BEGUN:
        _log.info("licence begins to count", extra={"facts": details})
    elif notice.kind is NoticeKind.ENDED:
        _log.warning("licence has ended", extra={"facts": details})
    else:
        _log.warning("licence ends soon", extra={"facts": details | {"left": left_in_words(notice.left_s)}})


def say_change(change: KeyChange) -> None:
    """A key came from one state to another."""
    level, message = _said_of(change)
    details = {"thumbprint": change.thumbprint, "place": change.address, "before": change.before, "after": change.after}
    if change.code:
        details |= {"code": change.code, "cause": change.sentence}
    _log.log(level, message, extra={"facts": details})


def _said_of(change: KeyChange) -> tuple[int, str]:
    if change.after is KeyState.QUARANTINED:
        return logging.ERROR, "security key quarantined: it has a clone"
    if change.after in (KeyState.LOST, KeyState.DISABLED):
        return logging.WARNING, f"security key {change.after}"
    if change.after is KeyState.SUSPECT and not change.thumbprint:
        return logging.WARNING, "security key cannot be used"
    if change.after is KeyState.PRESENT and change.before is not KeyState.SUSPECT:
        return logging.INFO, "security key present"
    return logging.DEBUG, "security key"


def say_recalled(recalled: Remembered) -> None:
    """What an earlier run remembers, if anything."""
    if recalled.keys or recalled.licences:
        details = {"keys": len(recalled.keys), "licences": len(recalled.licences)}
        _log.info("security keys of the last run recalled", extra={"facts": details})
    for name in recalled.broken:
        _log.error("what was remembered of %s cannot be read; it is taken for spent", name)


def say_clock(unix_s: int, high_unix_s: int, is_suspect: bool) -> None:
    """The wall clock stepped back, or has caught up again."""
    details = {"clock": day(unix_s), "seen_before": day(high_unix_s), "behind_s": high_unix_s - unix_s}
    if is_suspect:
        message = "the wall clock stepped back: until it has caught up nothing expired revives and nothing new becomes valid"
        _log.error(message, extra={"facts": details})
    else:
        _log.warning("the wall clock has caught up: it is believed again", extra={"facts": details})
