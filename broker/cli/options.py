"""Options that several commands share: how to reach a broker, and `--json`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

FILE = click.Path(path_type=Path, dir_okay=False)
DIRECTORY = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, slots=True)
class Reach:
    """What the command line says about reaching a broker; None where it says nothing."""

    address: str | None
    data_dir: Path | None
    token_file: Path | None
    ca: Path | None
    certificate: Path | None
    private_key: Path | None

    def over(self, outer: Reach) -> Reach:
        """What is said at the end of a command line goes before what is said in its middle."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(outer, **said)


@dataclass(frozen=True, slots=True)
class Outer:
    """What was said to a group, before the name of its command: `usher sessions --json revoke 3.1042`."""

    reach: Reach
    is_json: bool


def json_option(command: Command) -> Command:
    """`--json`: the answer as JSON, in a shape that does not change between versions."""
    return click.option("--json", "is_json", is_flag=True, help="Print JSON.")(command)


def tls_options(command: Command) -> Command:
    """How to trust a listener with TLS, and who we are."""
    for name, says in (
        ("--tls-private-key", "Mutual TLS: the private key of --tls-certificate (PEM)."),
        ("--tls-certificate", "Mutual TLS: the certificate to present (PEM)."),
        ("--tls-ca", "TLS: the authority that signed the broker's certificate (PEM)."),
    ):
        variable = "USHER_" + name.removeprefix("--").replace("-", "_").upper()
        command = click.option(name, type=FILE, envvar=variable, show_envvar=True, help=says)(command)
    return command


def data_dir_option(command: Command) -> Command:
    """`--data-dir`: whose broker."""
    return click.option(
        "--data-dir", type=DIRECTORY, envvar="USHER_DATA_DIR", show_envvar=True, help="The broker's data directory."
    )(command)


def admin_options(command: Command) -> Command:
    """Everything that reaches an admin port; arrives as `reach`."""

    @functools.wraps(command)
    def with_reach(
        *positional: Any,
        admin: str | None,
        data_dir: Path | None,
        token_file: Path | None,
        tls_ca: Path | None,
        tls_certificate: Path | None,
        tls_private_key: Path | None,
        **others: Any,
    ) -> Any:
        reach = Reach(admin, data_dir, token_file, tls_ca, tls_certificate, tls_private_key)
        return command(*positional, reach=reach, **others)

    reached = tls_options(with_reach)
    reached = click.option(
        "--token-file", type=FILE, envvar="USHER_TOKEN_FILE", show_envvar=True, help="The admin token, if it lies elsewhere."
    )(reached)
    reached = data_dir_option(reached)
    return click.option(
        "--admin", metavar="ADDRESS", envvar="USHER_ADMIN", show_envvar=True, help="The broker's admin address."
    )(reached)
