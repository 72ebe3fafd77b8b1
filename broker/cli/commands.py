"""The table of commands: name, one line of help, and where it lives. A command's module is imported when it is run."""

from __future__ import annotations

import importlib
from typing import Any

import click

import broker

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("broker.cli.serve:serve", "Run a broker."),
    "open": ("broker.cli.open_session:open_session", "Open a session and hold it until interrupted."),
    "status": ("broker.cli.status:status", "Show the broker itself."),
    "seats": ("broker.cli.seats:seats", "Show products: capacity, use, free, deficit."),
    "sessions": ("broker.cli.sessions:sessions", "List open sessions, or revoke one."),
    "keys": ("broker.cli.keys:keys", "List security keys; stop or resume counting one."),
    "licences": ("broker.cli.licences:licences", "List licences, and say why one does not count."),
    "events": ("broker.cli.events:events", "Watch events as they happen."),
    "history": ("broker.cli.history:history", "Look into the past: sessions, use of seats, events."),
    "emulate": ("broker.cli.emulate:emulate", "Plug and unplug emulated keys."),
    "reload": ("broker.cli.steer:reload", "Make the broker read its licences again."),
    "drain": ("broker.cli.steer:drain", "Let no new session in, or let them in again."),
    "backup": ("broker.cli.backup:backup", "Copy a broker's data while it runs, and verify the copy."),
    "restore": ("broker.cli.backup:restore", "Put a backup back."),
    "hwkey": ("broker.cli.hwkey:hwkey", "Look at the security keys of this machine, without a broker."),
    "doctor": ("broker.cli.doctor:doctor", "Say what is wrong with this machine, and what to do about it."),
    "vendor": ("broker.cli.vendor:vendor", "Issue licences (for vendors; works offline)."),
    "config": ("broker.cli.config:config", "Check a configuration, show the defaults."),
    "version": ("broker.cli.version:version", "Show the version."),
}


class LazyGroup(click.Group):
    """A group whose commands are named in a table and imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `usher --help`, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, says) for name, (_, says) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """As click does, without importing every command to look for similar names."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            ctx.fail(f"there is no command {name!r}; `usher --help` lists them")
        return name, command, args[1:]


EXIT_CODES = """Exit codes: 0 done, 1 a bug of ours, 2 wrong command line, 3 seats denied, 4 configuration or licence refused, 5 no broker
answers, 6 the broker refused the call, 7 data directory, 8 address in use, 9 compiled parts or a library missing,
10 session lost, 13 trouble found."""


@click.group(
    cls=LazyGroup,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(broker.__version__, message="usher %(version)s")
def usher() -> None:
    """Usher: a licence and session broker. Seats from USB security keys, handed out to client apps."""
