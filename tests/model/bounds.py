"""The bounds of one request in the ledger model, and which part of a request breaks them first.

Sizes in bytes. The same numbers as ext/limits.pxd, written down a second time on purpose: the lockstep suites hold the
two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.model.words import InvalidField
from tests.model.records import Holder

USER_SIZE_MAX = HOST_SIZE_MAX = IDENTITY_SIZE_MAX = 128
APP_SIZE_MAX = LABEL_SIZE_MAX = INSTANCE_ID_SIZE_MAX = 64
PRODUCT_SIZE_MAX = 32
ITEM_COUNT_MAX = 16
PRIORITY_MAX = 7

Items = Sequence[tuple[str, bool]]
"""Products asked for: (id, is_optional)."""


def wrong_field(holder: Holder, products: Items, ttl_ns: int, priority: int) -> InvalidField:
    """The first part of an Open that breaks its bounds, in the order of InvalidField."""
    checks = [
        (InvalidField.USER, not 1 <= len(holder.user) <= USER_SIZE_MAX),
        (InvalidField.HOST, not 1 <= len(holder.host) <= HOST_SIZE_MAX),
        (InvalidField.APP, len(holder.app) > APP_SIZE_MAX),
        (InvalidField.LABEL, len(holder.label) > LABEL_SIZE_MAX),
        (InvalidField.INSTANCE_ID, len(holder.instance_id) > INSTANCE_ID_SIZE_MAX),
        (InvalidField.IDENTITY, len(holder.identity) > IDENTITY_SIZE_MAX),
        (InvalidField.PRODUCTS, are_products_wrong(products)),
        (InvalidField.TTL, ttl_ns < 0),
        (InvalidField.PRIORITY, not 0 <= priority <= PRIORITY_MAX),
    ]
    return next((field for field, is_wrong in checks if is_wrong), InvalidField.NONE)


def are_products_wrong(products: Items) -> bool:
    """None, too many, a bad id, the same twice, or only optional ones."""
    names = [name for name, _ in products]
    return (
        not 1 <= len(names) <= ITEM_COUNT_MAX
        or any(not 1 <= len(name.encode()) <= PRODUCT_SIZE_MAX for name in names)
        or len(set(names)) < len(names)
        or all(is_optional for _, is_optional in products)
    )
