"""The keyring's settings: how often keys are asked, how long an answer is good, and the bounds. Times in nanoseconds."""

from dataclasses import dataclass
from typing import Final

_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class KeyringSettings:
    """Defaults are those of `semantics.md` 9, 30; ValueError for a combination in which no key could stay proven.

    `broker_id` and `purpose` go into every challenge, so that an answer is worth nothing to another broker or use.
    """

    broker_id: str
    purpose: str = "presence"
    proof_ttl_ns: int = 90 * _S
    # The next proof is asked for at a random point between these, so that many keys do not come in step.
    reproof_ns_min: int = 30 * _S
    reproof_ns_max: int = 60 * _S
    # How often a bus that cannot tell of changes is looked at: less than the second in which seats must stop.
    scan_interval_ns: int = _S // 2
    # After a failure a key is asked again soon, then more and more rarely.
    retry_ns_min: int = _S // 2
    retry_ns_max: int = 30 * _S
    # A place at which a key has come and gone more often than this in a minute is left alone for a moment, then for longer: the
    # hub or the power has a fault, and each return and loss would be told to every session over what is left.
    flap_count_max: int = 4
    flap_window_ns: int = 60 * _S
    flap_hold_ns_min: int = _S
    flap_hold_ns_max: int = 8 * _S
    attempt_count_max: int = 3  # failures in a row before a key is lost; its last proof stands meanwhile
    grace_ns: int = 300 * _S
    grace_refill_ns: int = 3600 * _S
    # How long a start waits for the first try of every key, and how long it may for one that has spent its grace.
    starting_ns_max: int = 10 * _S
    # How far ahead the grace of a lost key, and of one that is awaited at a start, is written down as spent.
    spent_ahead_ns: int = 10 * _S
    awaited_ahead_ns: int = 2 * _S
    attachment_count_max: int = 256
    source_count_max: int = 4096
    carried_count_max: int = 1024  # keys whose own licences are remembered; more than can be attached
    # How long before a licence's end an admin is warned, in seconds of wall time.
    ending_warnings_s: tuple[int, ...] = (30 * 86_400, 7 * 86_400, 86_400)

    def __post_init__(self) -> None:
        if not 0 < self.reproof_ns_min <= self.reproof_ns_max < self.proof_ttl_ns:
            raise ValueError(
                "keys must be asked again before their proofs end: reproof min <= max < proof ttl"
            )
        if not 0 < self.retry_ns_min <= self.retry_ns_max:
            raise ValueError("retries need a positive interval: retry min <= max")
        if (
            self.scan_interval_ns <= 0
            or self.attempt_count_max < 1
            or self.grace_ns < 0
            or self.grace_refill_ns <= 0
            or min(self.starting_ns_max, self.spent_ahead_ns, self.awaited_ahead_ns) <= 0
        ):
            raise ValueError(
                "scan interval, attempts, grace refill, the start's wait and what is written ahead must be positive, and grace not"
                " negative"
            )

    def flap_hold_ns(self, flap_count: int) -> int:
        """How long a place is left alone at which a key went that often within the window."""
        excess_count = flap_count - self.flap_count_max
        return 0 if excess_count < 0 else min(self.flap_hold_ns_max, self.flap_hold_ns_min << min(excess_count, 20))

    def retry_ns(self, failure_count: int) -> int:
        """How long to wait after that many failures in a row (1 or more)."""
        # Capped in the exponent first: a key may fail for months.
        return min(self.retry_ns_max, self.retry_ns_min << min(failure_count - 1, 20))
