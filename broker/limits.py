"""Every bound of the broker by name: `LIMITS["USER_SIZE_MAX"]`; they stand, with their reasons, in ext/limits.pxd.

Needs the compiled parts, which are the ones that keep the bounds.
"""

from broker._ledger import LIMITS

__all__ = ["LIMITS"]
