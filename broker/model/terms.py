"""The terms of a pool: what a licence fixes about how its seats are counted (semantics rules 2-4)."""

from __future__ import annotations

from dataclasses import dataclass

from broker.model.words import LicenceModel, Sharing


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """Equal terms of one product make one pool. Durations in nanoseconds; `share_max` 0 means no maximum."""

    model: LicenceModel = LicenceModel.CONCURRENT
    sharing: Sharing = Sharing.SESSION
    share_max: int = 0
    weight: int = 1
    linger_ns: int = 0
    min_hold_ns: int = 0

    def in_words(self) -> str:
        """For people: 'concurrent, per user, up to 4 sessions a seat'."""
        words = [self.model.name.lower(), f"per {_SHARING_WORDS[self.sharing]}"]
        if self.share_max:
            words.append(f"up to {self.share_max} sessions a seat")
        if self.weight != 1:
            words.append(f"{self.weight} seats each")
        if self.linger_ns:
            words.append(f"lingers {self.linger_ns / 1e9:g} s")
        if self.min_hold_ns:
            words.append(f"held at least {self.min_hold_ns / 1e9:g} s")
        return ", ".join(words)


_SHARING_WORDS = {
    Sharing.SESSION: "session",
    Sharing.USER: "user",
    Sharing.HOST: "host",
    Sharing.USER_HOST: "user and host",
}
