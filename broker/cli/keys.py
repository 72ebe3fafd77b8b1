"""`usher keys`: security keys, where they stand and what they give; and which of them may count."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.connection import admin_client
from broker.cli.options import Outer, Reach, admin_options, json_option
from broker.cli.output import print_json, print_table, say, seconds, span, word
from broker.client import NotFound
from broker.client.admin import AdminClient
from broker.v1 import admin_pb2

COLUMNS = ("Key", "State", "Seats", "Last proof", "Where", "What", "Why")
THUMBPRINT_SHOWN = 11
# One thumbprint in 64 begins with a dash, and its letters are no options, not even -h.
WITH_DASHES = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


@click.group(invoke_without_command=True)
@admin_options
@json_option
@click.pass_context
def keys(context: click.Context, reach: Reach, is_json: bool) -> None:
    """List security keys: present ones, and those that a licence names. Or stop and resume counting one."""
    context.obj = Outer(reach, is_json)
    if context.invoked_subcommand is not None:
        return
    with admin_client(reach) as admin:
        found = admin.security_keys()
    if is_json:
        print_json({"keys": [_json(one) for one in found]})
    else:
        print_table(COLUMNS, [_row(one) for one in found], empty="No security key, and no licence that names one.")


@keys.command(context_settings=WITH_DASHES)
@admin_options
@click.argument("thumbprint")
@json_option
@click.pass_obj
def enable(outer: Outer, reach: Reach, thumbprint: str, is_json: bool) -> None:
    """Count a key again: one that was disabled, or is in quarantine. The first letters of THUMBPRINT are enough."""
    _set_enabled(reach.over(outer.reach), thumbprint, True, is_json or outer.is_json)


@keys.command(context_settings=WITH_DASHES)
@admin_options
@click.argument("thumbprint")
@json_option
@click.pass_obj
def disable(outer: Outer, reach: Reach, thumbprint: str, is_json: bool) -> None:
    """Stop counting a key without unplugging it. The first letters of THUMBPRINT are enough."""
    _set_enabled(reach.over(outer.reach), thumbprint, False, is_json or outer.is_json)


def _set_enabled(reach: Reach, beginning: str, is_enabled: bool, is_json: bool) -> None:
    with admin_client(reach) as admin:
        thumbprint = _whole_thumbprint(admin, beginning)
        admin.set_key_enabled(thumbprint, is_enabled)
    if is_json:
        print_json({"thumbprint": thumbprint, "enabled": is_enabled})
    else:
        say(f"Key {thumbprint} {'counts again once it has proven itself' if is_enabled else 'counts no more'}.")


def _whole_thumbprint(admin: AdminClient, beginning: str) -> str:
    """The one key whose thumbprint begins so."""
    found = [one.thumbprint for one in admin.security_keys() if one.thumbprint and one.thumbprint.startswith(beginning)]
    if len(found) != 1:
        what = f"{len(found)} keys have thumbprints that begin" if found else "no key has a thumbprint that begins"
        raise NotFound(f'{what} with "{beginning}"; `usher keys --json` shows them whole')
    return found[0]


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
