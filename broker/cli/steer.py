"""`usher reload` and `usher drain`: what an admin tells a running broker."""

from __future__ import annotations

import click

from broker.cli.connection import admin_client
from broker.cli.options import Reach, admin_options, json_option
from broker.cli.output import print_json, say


@click.command()
@admin_options
@json_option
def reload(reach: Reach, is_json: bool) -> None:
    """Make the broker read its licences again, and say what changed."""
    with admin_client(reach) as admin:
        changes = admin.reload()
    if is_json:
        print_json({"changes": changes})
    else:
        for change in changes or ["Nothing has changed."]:
            say(change)


@click.command()
@admin_options
@click.option("--stop", "is_stopping", is_flag=True, help="Let new sessions in again.")
@json_option
def drain(reach: Reach, is_stopping: bool, is_json: bool) -> None:
    """Let no new session in while the present ones go on; with --stop, let them in again."""
    with admin_client(reach) as admin:
        count = admin.drain(not is_stopping)
    if is_json:
        print_json({"draining": not is_stopping, "sessions": count})
    else:
        begin = "New sessions are let in again" if is_stopping else "No new session is let in"
        say(f"{begin}; {count} are open.")
