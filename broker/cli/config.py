"""`usher config`: checks a configuration with all that it names, and shows the defaults."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from broker.app.config import Config
from broker.app.config_file import checked, load_config
from broker.app.config_text import config_json, config_text
from broker.app.licence_sources import read_trust
from broker.app.tls import read_tls
from broker.cli.options import FILE, data_dir_option, json_option
from broker.cli.output import print_json, print_table, say
from broker.errors import ConfigError, ConfigFault
from broker.exit_codes import ExitCode
from broker.licence import Licence, LicenceFolder, Period, Refusal, TrustFile, period_sentence


@click.group()
def config() -> None:
    """Check a configuration, show the defaults. Works offline."""


@config.command()
@click.argument("file", type=FILE)
@data_dir_option
@click.option("--emulate", "is_emulated", is_flag=True, help="As for `usher serve --emulate`.")
@json_option
def check(file: Path, data_dir: Path | None, is_emulated: bool, is_json: bool) -> int:
    """Check FILE, its certificates, trust files and licences; say everything that is wrong.

    Ends with 4 if a broker would not start with it. Licences that do not count are listed, but stop no broker.
    """
    faults: tuple[ConfigFault, ...] = ()
    settings, trust = Config(), TrustFile()
    try:
        settings = checked(load_config(file).with_choices(data_dir=data_dir, is_emulated=is_emulated))
        for name, listener in settings.listeners():
            read_tls(settings.source, listener.tls, f"{name}.tls")
        trust = read_trust(settings)
    except ConfigError as error:
        faults = error.faults
    rows = [] if faults else _verdicts(settings.licence_folder, trust)
    if is_json:
        print_json({"valid": not faults, "faults": [_fault_json(one) for one in faults], "licences": rows})
    else:
        _say_verdict(file, faults, rows)
    return ExitCode.CONFIG if faults else ExitCode.DONE


@config.command("show-defaults")
@json_option
def show_defaults(is_json: bool) -> None:
    """Show every setting with its default, as a configuration file."""
    if is_json:
        print_json(config_json(Config()))
    else:
        print(config_text(Config()), end="")


def _say_verdict(file: Path, faults: tuple[ConfigFault, ...], rows: list[dict[str, Any]]) -> None:
    for one in faults:
        say(str(one), style="red")
    if faults:
        return
    say(f"{file} is valid.", style="green")
    columns = ("File", "Verdict", "Licence", "Product", "#Seats", "Why")
    cells = [(row["file"], row["verdict"], row["licence"], row["product"], row["seats"], row["reason"]) for row in rows]
    print_table(columns, cells, empty="There are no licences in its licence folder.")


def _verdicts(folder: Path, trust: TrustFile) -> list[dict[str, Any]]:
    """What a broker would think of each document; a folder that is not there yet holds none."""
    if not folder.exists():
        return []
    reading = LicenceFolder(folder).read(trust)
    now_unix_s = int(time.time())
    rows = [_licence_row(one, now_unix_s) for one in reading.accepted] + [_refusal_row(one) for one in reading.refused]
    return sorted(rows, key=lambda row: str(row["file"]))


def _licence_row(licence: Licence, now_unix_s: int) -> dict[str, Any]:
    period = licence.period_at(now_unix_s)
    verdict = "accepted" if period is Period.VALID else period.value.replace("_", " ")
    return {
        "file": licence.file,
        "verdict": verdict,
        "licence": licence.licence_id,
        "product": licence.product,
        "seats": licence.seats,
        "reason": "" if period is Period.VALID else period_sentence(licence, period),
    }


def _refusal_row(refusal: Refusal) -> dict[str, Any]:
    return {
        "file": refusal.file,
        "verdict": f"refused: {refusal.reason.value}",
        "licence": refusal.licence_id,
        "product": refusal.product,
        "seats": None,
        "reason": refusal.sentence,
    }


def _fault_json(fault: ConfigFault) -> dict[str, str]:
    return {"file": fault.file, "entry": fault.dotted, "reason": fault.reason, "remedy": fault.remedy}
