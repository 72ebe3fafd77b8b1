"""`usher status`: the broker itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from broker.cli.connection import admin_client
from broker.cli.options import Reach, admin_options, json_option
from broker.cli.output import instant, print_json, print_table, say, seconds
from broker.v1 import admin_pb2


@click.command()
@admin_options
@json_option
def status(reach: Reach, is_json: bool) -> None:
    """Show the broker itself: version, since when it runs, how many sessions, what keeps them over a restart."""
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
        "clock_suspect": broker.clock_suspect,
    }
    kept = _journal(broker.journal) if broker.HasField("journal") else {}
    if is_json:
        print_json(facts | {"journal": kept | {"warnings": list(broker.journal.warnings)} if kept else None})
        return
    rows = [(name, ("no", "yes")[value] if isinstance(value, bool) else value) for name, value in (facts | kept).items()]
    print_table(("What", "Now"), rows, empty="")
    for sentence in _sentences(broker):
        say(sentence, style="yellow")


def _journal(journal: admin_pb2.Journal) -> dict[str, Any]:
    """What keeps sessions; the names are those of the JSON too."""
    return {
        "journal_status": journal.status,
        "recovered_sessions": journal.recovered_sessions,
        "recovery_s": seconds(journal.recovery_time),
        "last_run_clean": journal.last_run_clean,
        "log_size": journal.log_size,
        "log_size_max": journal.log_size_max,
        "last_snapshot": instant(journal.snapshot_time) if journal.HasField("snapshot_time") else "",
        "log_behind_snapshot_size": journal.snapshot_behind_size,
    }


def _sentences(broker: admin_pb2.GetBrokerResponse) -> Iterator[str]:
    """What an admin should do something about."""
    if sentence := _STATUSES.get(broker.journal.status):
        yield sentence
    yield from broker.journal.warnings
    if broker.clock_suspect:
        yield "The wall clock stepped back: until it has caught up, no licence that expired counts again, and none begins."


_STATUSES = {
    "learning": "The last run ended unclean, and answers left before they were on the disk: no new charges for one ttl.",
    "renew_only": "The log cannot be written: sessions go on, nobody new gets in. Make the disk well and start the broker again.",
    "failed": "The disk has refused the log: the broker is ending.",
}
