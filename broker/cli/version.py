"""`usher version`: what is installed."""

from __future__ import annotations

import importlib.util
import platform

import click

import broker
from broker.cli.options import json_option
from broker.cli.output import print_json, say


@click.command()
@json_option
def version(is_json: bool) -> None:
    """Show the version, and whether this install can run a broker."""
    has_ledger = importlib.util.find_spec("broker._ledger") is not None
    facts = {"version": broker.__version__, "python": platform.python_version(), "compiled": has_ledger}
    if is_json:
        print_json(facts)
    else:
        kind = "with compiled parts" if has_ledger else "client only: without compiled parts"
        say(f"usher {broker.__version__} ({kind}; Python {platform.python_version()})")
