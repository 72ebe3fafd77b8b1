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
    if not 1 <= len(holder.user) <= USER_SIZE_MAX:
        return InvalidField.USER
    if not 1 <= len(holder.host) <= HOST_SIZE_MAX:
        return InvalidField.HOST
    if len(holder.app) > APP_SIZE_MAX:
        return InvalidField.APP
    if len(holder.label) > LABEL_SIZE_MAX:
        return InvalidField.LABEL
    if len(holder.instance_id) > INSTANCE_ID_SIZE_MAX:
        return InvalidField.INSTANCE_ID
    if len(holder.identity) > IDENTITY_SIZE_MAX:
        return InvalidField.IDENTITY
    if are_products_wrong(products):
        return InvalidField.PRODUCTS
    if ttl_ns < 0:
        return InvalidField.TTL
    if not 0 <= priority <= PRIORITY_MAX:
        return InvalidField.PRIORITY
    return InvalidField.NONE


def are_products_wrong(products: Items) -> bool:
    """None, too many, the same twice, a bad id, or only optional ones."""
    if not 1 <= len(products) <= ITEM_COUNT_MAX:
        return True
    names = {name for name, _ in products}
    sizes = [len(name.encode()) for name in names]
    is_twice = len(names) < len(products)
    is_bad_id = min(sizes) < 1 or max(sizes) > PRODUCT_SIZE_MAX
    is_any_required = False in [is_optional for _, is_optional in products]
    return is_twice or is_bad_id or not is_any_required
