"""Names behind the ledger's numbers: a product's id by its index, a pool's facts by its number.

The ledger only ever adds products and pools, so what was read once stays true; it is read again when a number is new.
"""

from __future__ import annotations

from typing import Protocol

from broker.model.views import PoolView, ProductView


class NameSource(Protocol):
    """The part of the ledger that is read."""

    def products(self) -> list[ProductView]: ...
    def pools(self) -> list[PoolView]: ...


class Names:
    """One for each reader; no locks, so each stays in its thread."""

    def __init__(self, ledger: NameSource) -> None:
        self._ledger = ledger
        self._products: list[str] = []
        self._emulated: dict[int, bool] = {}

    def product(self, index: int) -> str:
        """The product's id; empty for -1 and for what does not exist."""
        if index >= len(self._products):
            self._products = [view.product for view in self._ledger.products()]
        return self._products[index] if 0 <= index < len(self._products) else ""

    def is_emulated(self, pool: int) -> bool:
        """Whether the pool's seats come from EMULATED keys."""
        if pool not in self._emulated:
            self._emulated = {view.pool: view.is_emulated for view in self._ledger.pools()}
        return self._emulated.get(pool, False)
