"""`usher status`: the broker itself."""

from __future__ import annotations

import click

from broker.cli.connection import admin_client
from broker.cli.options import Reach, admin_options, json_option
from broker.cli.output import instant, print_json, print_table, seconds


@click.command()
@admin_options
@json_option
def status(reach: Reach, is_json: bool) -> None:
    """Show the broker itself: version, since when it runs, how many sessions."""
    with admin_client(reach) as admin:
        broker = admin.get_broker()
    facts = {
        "version": broker.version,
        "broker_id": broker.broker_id,
        "generation": broker.generation,
        "started": instant(broker.start_time),
        "sessions": broker.session_count,
        "draining": broker.draining,
        "data_plane": broker.data_plane,
        "durability": broker.durability,
        "emulation": broker.emulation,
        "ttl_s": seconds(broker.ttl),
        "renew_grace_s": seconds(broker.renew_grace),
    }
    if is_json:
        print_json(facts)
    else:
        rows = [(name, ("no", "yes")[value] if isinstance(value, bool) else value) for name, value in facts.items()]
        print_table(("What", "Now"), rows, empty="")
