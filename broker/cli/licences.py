"""`usher licences`: licences and whether they count, with the reason when they do not."""

from __future__ import annotations

import time
from typing import Any

import click

from broker.cli.connection import admin_client
from broker.cli.options import Reach, admin_options, json_option
from broker.cli.output import instant, print_json, print_table, word
from broker.v1 import admin_pb2

COLUMNS = ("Licence", "State", "Product", "#Seats", "Vendor", "Until", "Key", "File", "Note")
THUMBPRINT_SHOWN = 11


@click.command()
@admin_options
@json_option
def licences(reach: Reach, is_json: bool) -> None:
    """List licences, and say why one does not count."""
    with admin_client(reach) as admin:
        found = admin.licences()
    if is_json:
        print_json({"licences": [_json(one) for one in found]})
    else:
        print_table(COLUMNS, [_row(one) for one in found], empty="No licence in the licence folder.")


def _json(one: admin_pb2.Licence) -> dict[str, Any]:
    return {
        "licence": one.licence_id,
        "vendor": one.vendor,
        "product": one.product,
        "seats": one.seats,
        "state": _state(one),
        "reason": one.reason,
        "thumbprint": one.thumbprint,
        "file": one.source,
        "not_before": instant(one.not_before),
        "expiry": instant(one.expiry),
        "ends_in_s": one.expiry.seconds - int(time.time()) if one.HasField("expiry") else None,
        "emulated": one.emulated,
        "terms": one.terms,
    }


def _row(one: admin_pb2.Licence) -> tuple[object, ...]:
    until = (instant(one.expiry) or "")[:10] or ("no end" if one.licence_id else "-")
    note = "; ".join(words for words in ("EMULATED" if one.emulated else "", one.reason or one.terms) if words)
    shown = one.thumbprint[:THUMBPRINT_SHOWN] or "-"
    return (one.licence_id or "-", _state(one), one.product, one.seats or "", one.vendor, until, shown, one.source, note)


def _state(one: admin_pb2.Licence) -> str:
    return word(admin_pb2.LicenceState, one.state, "LICENCE_STATE_").replace("_", " ")
