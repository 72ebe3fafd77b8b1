"""`usher sessions`: who holds what; and `usher sessions revoke`."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.connection import admin_client
from broker.cli.options import Outer, Reach, admin_options, json_option
from broker.cli.output import print_json, print_table, say, seconds, span, word
from broker.v1 import admin_pb2, types_pb2

COLUMNS = ("Session", "User", "Host", "App", "Products", "Open for", "Ends in", "Identity")


@click.group(invoke_without_command=True)
@admin_options
@click.option("--user", default="", help="Only sessions of this user.")
@click.option("--product", default="", help="Only sessions that hold this product.")
@json_option
@click.pass_context
def sessions(context: click.Context, reach: Reach, user: str, product: str, is_json: bool) -> None:
    """List open sessions, or revoke one.

    "Ends in" is when a session ends if it is not renewed, grace included.
    """
    context.obj = Outer(reach, is_json)
    if context.invoked_subcommand is not None:
        return
    with admin_client(reach) as admin:
        found = list(admin.sessions(user=user, product=product))
    if is_json:
        print_json({"sessions": [_session_json(one) for one in found]})
    else:
        print_table(COLUMNS, [_row(one) for one in found], empty="No open session.")


@sessions.command()
@admin_options
@click.argument("public_id")
@click.option("--reason", default="", help="For the record.")
@json_option
@click.pass_obj
def revoke(outer: Outer, reach: Reach, public_id: str, reason: str, is_json: bool) -> None:
    """End a session at once. PUBLIC_ID is its short id in `usher sessions`, such as 3.1042."""
    with admin_client(reach.over(outer.reach)) as admin:
        admin.revoke(public_id, reason)
    if is_json or outer.is_json:
        print_json({"revoked": public_id})
    else:
        say(f"Session {public_id} is over.")


def _session_json(session: admin_pb2.Session) -> dict[str, Any]:
    return {
        "session": session.public_id,
        "user": session.holder.user,
        "host": session.holder.host,
        "app": session.holder.app,
        "label": session.holder.label,
        "instance_id": session.instance_id,
        "identity": session.identity,
        "age_s": seconds(session.age),
        "ends_in_s": seconds(session.ends_in),
        "leases": [_lease_json(lease) for lease in session.leases],
    }


def _lease_json(lease: types_pb2.Lease) -> dict[str, Any]:
    return {
        "product": lease.product,
        "state": _state(lease),
        "seats": lease.seats,
        "shared": lease.shared,
        "emulated": lease.emulated,
        "key_grace_s": seconds(lease.key_grace) if lease.HasField("key_grace") else None,
    }


def _row(session: admin_pb2.Session) -> tuple[object, ...]:
    holder = session.holder
    held = ", ".join(_held(lease) for lease in session.leases) or "nothing"
    times = (span(seconds(session.age)), span(seconds(session.ends_in)))
    return (session.public_id, holder.user, holder.host, holder.app, held, *times, session.identity)


def _held(lease: types_pb2.Lease) -> str:
    state = _state(lease)
    return lease.product if state == "active" else f"{lease.product} ({state.replace('_', ' ')})"


def _state(lease: types_pb2.Lease) -> str:
    return word(types_pb2.LeaseState, lease.state, "LEASE_STATE_")
