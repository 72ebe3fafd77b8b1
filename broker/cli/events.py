"""`usher events`: what happens, as it happens."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.connection import admin_client
from broker.cli.options import Reach, admin_options, json_option
from broker.cli.output import complain, instant, print_json_line, say, word
from broker.v1 import admin_pb2, types_pb2


@click.command()
@admin_options
@click.option("--after", "after_sequence", type=click.IntRange(0), default=0, help="Begin after this sequence number.")
@click.option("--count", type=click.IntRange(1), help="Stop after this many events.")
@json_option
def events(reach: Reach, after_sequence: int, count: int | None, is_json: bool) -> None:
    """Watch events as they happen, until interrupted. With --json: one object a line."""
    left = count
    with admin_client(reach) as admin:
        for answer in admin.watch(after_sequence):
            if answer.missed_count:
                complain(f"{answer.missed_count} events were missed: the broker no longer keeps them")
            for event in answer.events:
                _print(event, is_json)
                left = None if left is None else left - 1
                if left == 0:
                    return


def _print(event: admin_pb2.Event, is_json: bool) -> None:
    if is_json:
        print_json_line(_json(event))
        return
    clock = (instant(event.time) or "")[11:19]
    say(f"{clock}  {_kind(event).replace('_', ' '):<18} {event.message}")


def _json(event: admin_pb2.Event) -> dict[str, Any]:
    return {
        "sequence": event.sequence,
        "time": instant(event.time),
        "kind": _kind(event),
        "session": event.session or None,
        "product": event.product or None,
        "pool": event.pool,
        "seats": event.seats,
        "deficit": event.deficit,
        "end_reason": word(types_pb2.EndReason, event.end_reason, "END_REASON_") if event.end_reason else None,
        "denial_reason": (
            word(types_pb2.DenialReason, event.denial_reason, "DENIAL_REASON_") if event.denial_reason else None
        ),
        "message": event.message,
    }


def _kind(event: admin_pb2.Event) -> str:
    return word(admin_pb2.EventKind, event.kind, "EVENT_KIND_")
