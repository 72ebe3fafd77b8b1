"""`usher backup` and `usher restore`: a broker's directory copied while it runs, and put back.

What a backup is and in which order it is read: broker/journal/backup.py. Both need no admin token, but the rights to the data directory:
be the broker's user, or root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.app.config import Config
from broker.app.config_file import load_config
from broker.app.data_directory import BROKER_ID_FILE, GENERATION_FILE, LOCK_FILE, SECRET_FILE, TOKEN_FILE
from broker.cli.options import DIRECTORY, FILE, Command, data_dir_option, json_option
from broker.cli.output import print_json, say
from broker.errors import AlreadyRunning, CompiledPartsMissing, DataDirectoryError

if TYPE_CHECKING:
    from broker.journal.backup import Manifest, Source

KEPT = (BROKER_ID_FILE, SECRET_FILE, GENERATION_FILE, TOKEN_FILE, "trust.jwks.json", "licences", "emulated")
"""Of the data directory; the log beside them."""


def _place_options(command: Command) -> Command:
    """Whose directories are meant."""
    says = "usher.toml of that broker, if it says where its directories are."
    return click.option("--config", "config_path", type=FILE, envvar="USHER_CONFIG", show_envvar=True, help=says)(data_dir_option(command))


@click.command()
@click.argument("directory", type=DIRECTORY)
@_place_options
@json_option
def backup(directory: Path, config_path: Path | None, data_dir: Path | None, is_json: bool) -> None:
    """Copy a broker's data into DIRECTORY, beside a running broker, and verify the copy.

    It holds the broker's secret and its admin token: keep it where those may lie.
    """
    from broker.journal.backup import back_up

    config = _config(config_path, data_dir)
    with _readable(config) as committed:
        manifest = back_up(_source(config), directory, committed)
    if is_json:
        print_json(_facts(manifest))
        return
    say(f"{directory}: {len(manifest.files)} files, {manifest.size / 1e6:.1f} MB, all up to position {manifest.position}; read again and good.")
    say("It holds the broker's secret and admin token: only its owner may read it, keep it so.")


@click.command()
@click.argument("directory", type=DIRECTORY)
@_place_options
@click.option("--replace", "is_replacing", is_flag=True, help="Put what lies there now aside, under another name.")
@json_option
def restore(directory: Path, config_path: Path | None, data_dir: Path | None, is_replacing: bool, is_json: bool) -> None:
    """Put the backup in DIRECTORY back as a broker's data.

    What happened since it was made is lost: those sessions end, and their clients open anew. So the broker must be started once with
    --accept-restored.
    """
    from broker.journal.backup import read_manifest, verified

    config = _config(config_path, data_dir)
    verified(directory)  # before anything is put aside
    with _asleep(config.data_dir):
        known = _generation_known(config, bytes.fromhex(read_manifest(directory).broker))
        aside = [_put_aside(one) for one in _roots(config)] if is_replacing else []
    manifest = _restored(directory, config, known)
    if is_json:
        print_json(_facts(manifest) | {"put_aside": [str(one) for one in aside if one]})
        return
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.made_unix_s))
    say(f"{config.data_dir}: as it was at {made}, up to position {manifest.position}; its next start is {manifest.generation + 1}.")
    for one in aside:
        if one is not None:
            say(f"What was there lies in {one}.")
    say("Start it once with `usher serve --accept-restored`: sessions opened since the backup are lost, their clients open anew.")


def _restored(directory: Path, config: Config, generation_known: int) -> Manifest:
    from broker.journal.backup import Destination, restore

    target = Destination(config.data_dir, config.journal_folder, _owner(config.data_dir))
    return restore(directory, target, generation_known=generation_known)


def _config(config_path: Path | None, data_dir: Path | None) -> Config:
    try:
        import broker._journal  # noqa: F401 - whether this install has it
    except ImportError as error:
        raise CompiledPartsMissing(str(error)) from error
    config = load_config(config_path) if config_path else Config()
    return config.with_choices(data_dir=data_dir, is_emulated=False)


def _source(config: Config) -> Source:
    from broker.journal.backup import Source

    data_dir = config.data_dir
    try:
        broker_id = bytes.fromhex((data_dir / BROKER_ID_FILE).read_text())
        generation = int((data_dir / GENERATION_FILE).read_text())
    except (OSError, ValueError) as error:
        raise DataDirectoryError(data_dir, f"is no broker's ({error})", "name it with --data-dir, and be its user or root") from None
    return Source(data_dir, config.journal_folder, KEPT, broker_id, generation)


@contextlib.contextmanager
def _readable(config: Config) -> Iterator[Callable[[], int | None]]:
    """What tells the committed position of the broker that runs; of one that does not, nothing, and none can begin meanwhile."""
    from broker.app.takeover import ask_committed

    data_dir = config.data_dir
    if ask_committed(data_dir) is not None:
        yield lambda: ask_committed(data_dir)
        return
    try:
        with _asleep(data_dir):
            yield lambda: None
    except AlreadyRunning as error:
        reason = f"the broker that runs (process {error.pid}) does not say what it has committed: it keeps no log, or its disk is read-only"
        raise DataDirectoryError(data_dir, reason, "stop it for the backup, or set [journal] durability") from None


@contextlib.contextmanager
def _asleep(data_dir: Path) -> Iterator[None]:
    """No broker runs here, and none can begin. AlreadyRunning."""
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield  # never been a broker's
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        raise AlreadyRunning(data_dir, int(text) if text.isdigit() else 0) from None
    finally:
        os.close(descriptor)


def _roots(config: Config) -> list[Path]:
    """The directories that a restore fills; the log's only where it lies apart."""
    apart = not config.journal_folder.is_relative_to(config.data_dir)
    return [config.data_dir, *([config.journal_folder] if apart else [])]


def _put_aside(directory: Path) -> Path | None:
    """Gives a directory another name beside its own; None if there is nothing in it."""
    if not directory.exists() or not any(directory.iterdir()):
        return None
    owner, mode = directory.stat(), directory.stat().st_mode & 0o7777
    aside = directory.with_name(f"{directory.name}.replaced-{int(time.time())}")
    try:
        directory.rename(aside)
    except OSError as error:
        raise DataDirectoryError(directory, f"cannot be put aside: {error.strerror}", "empty it yourself; keep what was in it") from error
    directory.mkdir(mode=mode)
    if os.geteuid() == 0:
        os.chown(directory, owner.st_uid, owner.st_gid)
    return aside


def _owner(data_dir: Path) -> tuple[int, int] | None:
    """Whose a directory is that root fills; a new one becomes that of the owner of where it is made."""
    if os.geteuid() != 0:
        return None
    path = data_dir.absolute()
    found = next(one for one in (path, *path.parents) if one.exists()).stat()
    return found.st_uid, found.st_gid


def _generation_known(config: Config, broker_id: bytes) -> int:
    """The latest start that what lies here now, and the state file outside, know of this broker; 0 for nothing."""
    from broker.journal.state import generation_seen

    try:
        written = int((config.data_dir / GENERATION_FILE).read_text())
    except (OSError, ValueError):
        written = 0
    try:
        seen = generation_seen(config.journal_folder, config.journal.state_file, broker_id)
    except DataDirectoryError as error:
        say(f"What lies there now is not looked at: {error}", "yellow")
        seen = 0
    return max(written, seen)


def _facts(manifest: Manifest) -> dict[str, object]:
    return {name: value for name, value in asdict(manifest).items() if name != "files"} | {"files": len(manifest.files), "size": manifest.size}
