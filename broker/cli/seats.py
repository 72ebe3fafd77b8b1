"""`usher seats`: products and pools with their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from rich.text import Text

from broker.cli.connection import admin_client
from broker.cli.options import Reach, admin_options, json_option
from broker.cli.output import print_json, print_table
from broker.v1 import admin_pb2

COLUMNS = ("Product", "#Capacity", "#In use", "#Free", "#Deficit", "#Peak", "#Sessions", "#Denials", "Note")


@click.command()
@admin_options
@json_option
def seats(reach: Reach, is_json: bool) -> None:
    """Show products: capacity, use, free, deficit.

    A product whose licences differ in their terms has several pools, shown below it.
    """
    with admin_client(reach) as admin:
        products = admin.products()
    if is_json:
        print_json({"products": [product_json(one) for one in products]})
    else:
        rows = [row for one in products for row in _rows(one)]
        print_table(COLUMNS, rows, empty="No product yet: no licence has been accepted (see `usher licences`).")


def product_json(product: admin_pb2.Product) -> dict[str, Any]:
    """The stable shape of a product."""
    return {
        "product": product.product,
        "capacity": product.capacity,
        "in_use": product.in_use,
        "free": product.free,
        "deficit": product.deficit,
        "in_use_peak": product.in_use_peak,
        "leases": product.lease_count,
        "denials": product.denial_count,
        "emulated": product.emulated,
        "pools": [_pool_json(pool) for pool in product.pools],
    }


def _pool_json(pool: admin_pb2.Pool) -> dict[str, Any]:
    return {
        "pool": pool.pool,
        "terms": pool.terms,
        "capacity": pool.capacity,
        "in_use": pool.in_use,
        "deficit": pool.deficit,
        "grace_seats": pool.grace_seats,
        "charges": pool.charge_count,
        "lingering": pool.lingering_count,
        "key_grace": pool.key_grace_count,
        "leases": pool.lease_count,
        "in_use_peak": pool.in_use_peak,
        "starting": pool.starting,
        "emulated": pool.emulated,
    }


def _rows(product: admin_pb2.Product) -> Iterator[tuple[object, ...]]:
    numbers = (product.capacity, product.in_use, product.free, _alarming(product.deficit), product.in_use_peak)
    note = _note(product.pools[0]) if len(product.pools) == 1 else ("EMULATED" if product.emulated else "")
    yield (product.product, *numbers, product.lease_count, product.denial_count, note)
    if len(product.pools) > 1:
        for pool in product.pools:
            of_pool = (pool.capacity, pool.in_use, "", _alarming(pool.deficit), pool.in_use_peak)
            yield (f"  pool {pool.pool}", *of_pool, pool.lease_count, "", _note(pool))


def _alarming(deficit: int) -> Text:
    return Text(str(deficit), style="bold red" if deficit else "")


def _note(pool: admin_pb2.Pool) -> str:
    words = ["EMULATED"] if pool.emulated else []
    words += ["keys starting"] if pool.starting else []
    words += [f"{pool.key_grace_count} in key grace"] if pool.key_grace_count else []
    words += [f"{pool.lingering_count} lingering"] if pool.lingering_count else []
    return "; ".join([*words, pool.terms])
