"""`usher emulate`: plug and unplug the emulated keys of a running broker."""

from __future__ import annotations

from typing import Any

import click

from broker.cli.connection import admin_client
from broker.cli.options import Reach, admin_options, json_option
from broker.cli.output import print_json, print_table, say
from broker.v1 import admin_pb2


@click.group()
def emulate() -> None:
    """Plug and unplug emulated keys of a broker that serves them (`usher serve --emulate`)."""


@emulate.command("list")
@admin_options
@json_option
def list_keys(reach: Reach, is_json: bool) -> None:
    """List the emulated keys."""
    with admin_client(reach) as admin:
        found = admin.emulated_keys()
    if is_json:
        print_json({"emulated_keys": [_json(one) for one in found]})
        return
    rows = [(one.name, "yes" if one.plugged else "no", one.profile, one.thumbprint) for one in found]
    print_table(("Name", "Plugged in", "Behaves like", "Thumbprint"), rows, empty="The fleet is empty.")


@emulate.command()
@admin_options
@click.argument("name")
@json_option
def plug(reach: Reach, name: str, is_json: bool) -> None:
    """Plug the emulated key NAME in."""
    _set_plugged(reach, name, True, is_json)


@emulate.command()
@admin_options
@click.argument("name")
@json_option
def unplug(reach: Reach, name: str, is_json: bool) -> None:
    """Pull the emulated key NAME out."""
    _set_plugged(reach, name, False, is_json)


def _set_plugged(reach: Reach, name: str, is_plugged: bool, is_json: bool) -> None:
    with admin_client(reach) as admin:
        now = admin.set_plugged(name, is_plugged)
    if is_json:
        print_json(_json(now))
    else:
        say(f"Emulated key {now.name} is {'plugged in' if now.plugged else 'unplugged'}.")


def _json(one: admin_pb2.EmulatedKey) -> dict[str, Any]:
    return {"name": one.name, "profile": one.profile, "plugged": one.plugged, "thumbprint": one.thumbprint}
