"""`usher keys`: security keys, where they stand and what they give."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.connection import admin_client
from broker.cli.options import Reach, admin_options, json_option
from broker.cli.output import print_json, print_table, seconds, span, word
from broker.v1 import admin_pb2

COLUMNS = ("Key", "State", "Seats", "Last proof", "Where", "What", "Why")
THUMBPRINT_SHOWN = 11


@click.command()
@admin_options
@json_option
def keys(reach: Reach, is_json: bool) -> None:
    """List security keys: present ones, and those that a licence names."""
    with admin_client(reach) as admin:
        found = admin.keys()
    if is_json:
        print_json({"keys": [_json(one) for one in found]})
    else:
        print_table(COLUMNS, [_row(one) for one in found], empty="No security key, and no licence that names one.")


def _json(one: admin_pb2.SecurityKey) -> dict[str, Any]:
    return {
        "thumbprint": one.thumbprint,
        "state": _state(one),
        "reason": one.reason,
        "description": one.description,
        "address": one.address,
        "emulated": one.emulated,
        "seats": dict(sorted(one.seats.items())),
        "last_proof_age_s": seconds(one.last_proof_age) if one.HasField("last_proof_age") else None,
        "proof_latency_s": seconds(one.proof_latency) if one.HasField("proof_latency") else None,
        "proofs": one.proof_count,
        "proof_failures": one.proof_failure_count,
        "grace_left_s": seconds(one.grace_left) if one.HasField("grace_left") else None,
    }


def _row(one: admin_pb2.SecurityKey) -> tuple[object, ...]:
    given = ", ".join(f"{product} {count}" for product, count in sorted(one.seats.items())) or "-"
    age = span(seconds(one.last_proof_age)) + " ago" if one.HasField("last_proof_age") else "never"
    shown = one.thumbprint[:THUMBPRINT_SHOWN] or "not yet read"
    return (shown, _state(one), given, age, one.address or "-", one.description, one.reason)


def _state(one: admin_pb2.SecurityKey) -> str:
    return word(admin_pb2.KeyState, one.state, "KEY_STATE_")
