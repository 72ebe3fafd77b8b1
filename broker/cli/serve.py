"""`usher serve`: runs a broker in the foreground until a signal stops it.

The log goes to standard error. Once the broker serves, standard output gets a short page of things to try if keys are
emulated, or with --json one line that says where it serves. The broker's own modules are imported here late: a client-only install learns then how to get the compiled parts.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import click

from broker.app.address import Address, parse_address
from broker.app.config import Config
from broker.app.config_file import checked, load_config
from broker.app.data_directory import default_data_dir
from broker.app.logs import set_up_logs
from broker.cli.options import FILE, data_dir_option, json_option
from broker.errors import CompiledPartsMissing
from broker.exit_codes import ExitCode


class AddressType(click.ParamType[Address]):
    """HOST:PORT on the command line."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """The address; click's own failure for anything else."""
        if isinstance(value, Address):
            return value
        try:
            return parse_address(str(value))
        except ValueError as error:
            self.fail(f'"{value}" {error}; write it as 127.0.0.1:7600', param, ctx)


@click.command()
@click.option("--config", "config_path", type=FILE, envvar="USHER_CONFIG", show_envvar=True, help="usher.toml; without it the defaults hold.")
@data_dir_option
@click.option("--emulate", "is_emulated", is_flag=True, help="Serve emulated keys with test licences, made on the first start.")
@click.option("--clients", type=AddressType(), metavar="ADDRESS", help="Where client apps connect.")
@click.option("--admin", type=AddressType(), metavar="ADDRESS", help="Where admins connect.")
@click.option("--http", type=AddressType(), metavar="ADDRESS", help="Where metrics and the JSON door are.")
@click.option("--takeover", "is_takeover", is_flag=True, help="Take over from the broker that runs on this data directory: ports, sessions, keys.")
@click.option("--accept-restored", "accepts_restored", is_flag=True, help="Go on from a backup that was restored: sessions opened since are lost.")
@json_option
def serve(
    config_path: Path | None,
    data_dir: Path | None,
    is_emulated: bool,
    clients: Address | None,
    admin: Address | None,
    http: Address | None,
    is_takeover: bool,
    accepts_restored: bool,
    is_json: bool,
) -> int:
    """Run a broker until SIGTERM or Ctrl-C.

    Settings come from the command line, then --config, then the defaults (`usher config show-defaults`).
    """
    config = load_config(config_path) if config_path else Config()
    config = config.with_choices(data_dir=data_dir, is_emulated=is_emulated)
    config = checked(_with_addresses(config, clients=clients, admin=admin, http=http))
    _require_compiled_parts()
    set_up_logs(config.log.level, "json" if is_json else config.log.format)
    from broker.app.broker import Endpoints, run_broker

    def announce(endpoints: Endpoints) -> None:
        # Late: neither tables nor pages may keep the first client waiting.
        from broker.cli.output import print_json_line
        from broker.cli.try_this import try_this

        if is_json:
            print_json_line(dataclasses.asdict(endpoints))
        elif config.emulation.enabled:
            print(try_this(endpoints, config.emulation.keys, config.data_dir, default_data_dir()), flush=True)

    run_broker(config, announce, is_takeover=is_takeover, accepts_restored=accepts_restored)
    return ExitCode.DONE


def _require_compiled_parts() -> None:
    """A client-only install has none, and a wheel of another platform cannot load its own."""
    try:
        importlib.import_module("broker._ledger")
    except ImportError as error:
        raise CompiledPartsMissing(str(error)) from error


def _with_addresses(config: Config, **addresses: Address | None) -> Config:
    for name, address in addresses.items():
        if address is not None:
            section = dataclasses.replace(getattr(config, name), address=address)
            config = dataclasses.replace(config, **{name: section})
    return config
