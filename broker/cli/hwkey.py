"""`usher hwkey`: the security keys of this machine without a broker: find them, have one prove itself, prepare a new one.

A key that a broker holds answers as busy here. `prepare` runs nothing: it prints the commands of the token makers' tools, whose
options were checked against the sources of yubikey-manager and yubico-piv-tool; no token was written with them here.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from broker.cli.options import DIRECTORY, json_option
from broker.cli.output import print_json, print_table, say
from broker.exit_codes import ExitCode
from hwkey import NONCE_SIZE, HwkeyError, KeyBus, KeyPort, open_libusb_bus

COLUMNS = ("Where", "What", "Serial", "Usable", "Why not")
YKMAN = (
    "ykman piv access change-management-key --generate --protect",
    "ykman piv keys generate --algorithm ECCP256 --pin-policy NEVER --touch-policy NEVER 9e public.pem",
    "usher vendor issue VENDOR --product PRODUCT --seats SEATS --on-key public.pem --out certificate.pem",
    "ykman piv certificates import --verify 9e certificate.pem",
)
PIV_TOOL = (
    "yubico-piv-tool --action=set-mgm-key",
    "yubico-piv-tool --key --action=generate --slot=9e --algorithm=ECCP256 --pin-policy=never --touch-policy=never --output=public.pem",
    "usher vendor issue VENDOR --product PRODUCT --seats SEATS --on-key public.pem --out certificate.pem",
    "yubico-piv-tool --key --action=import-certificate --slot=9e --input=certificate.pem",
)
emulated_option = click.option("--emulated", type=DIRECTORY, help="The fleet of emulated keys in this directory, not USB.")


@click.group()
def hwkey() -> None:
    """Look at the security keys of this machine, without a broker."""


@hwkey.command("list")
@emulated_option
@json_option
def list_keys(emulated: Path | None, is_json: bool) -> None:
    """List what is plugged in and has a smart card interface."""
    ports = _bus(emulated).scan()
    if is_json:
        print_json({"keys": [_json(one) for one in ports]})
    else:
        rows = [(one.usb_path, _what(one), one.serial, "no" if one.refusal else "yes", one.refusal or "") for one in ports]
        print_table(COLUMNS, rows, empty="No security key is plugged in.")


@hwkey.command()
@click.argument("place", required=False)
@emulated_option
@json_option
def prove(place: str | None, emulated: Path | None, is_json: bool) -> int:
    """Have the key at PLACE (see `usher hwkey list`), or every key, sign a fresh challenge. Ends with 4 if one does not."""
    bus = _bus(emulated)
    chosen = [one for one in bus.scan() if place in (None, one.usb_path)]
    rows = [_proven(bus, one) for one in chosen]
    if is_json:
        print_json({"keys": rows})
    else:
        shown = [(row["place"], "proven" if row["proven"] else "not proven", row["thumbprint"], row["reason"]) for row in rows]
        print_table(("Where", "Proof", "Thumbprint", "Why not"), shown, empty="There is no such key.")
    return ExitCode.DONE if rows and all(row["proven"] for row in rows) else ExitCode.CONFIG


@hwkey.command()
@click.option("--tool", type=click.Choice(["ykman", "yubico-piv-tool"]), default="ykman", show_default=True, help="Whose commands.")
@json_option
def prepare(tool: str, is_json: bool) -> None:
    """Print the commands that prepare a real token: a private key made in its slot 9E, and the certificate beside it."""
    commands = YKMAN if tool == "ykman" else PIV_TOOL
    if is_json:
        print_json({"tool": tool, "commands": list(commands)})
        return
    say("On an empty token, one after the other. Keep its management key: who has it can replace what is in slot 9E.")
    for command in commands:
        print(f"    {command}")


def _bus(emulated: Path | None) -> KeyBus:
    if emulated is None:
        return open_libusb_bus()
    from hwkey.emulated import TokenFleet, emulated_bus

    return emulated_bus(TokenFleet(emulated))


def _proven(bus: KeyBus, port: KeyPort) -> dict[str, Any]:
    row: dict[str, Any] = {"place": port.usb_path, "thumbprint": "", "proven": False, "reason": ""}
    try:
        opened = bus.open(port)
        try:
            row["thumbprint"] = opened.thumbprint
            opened.prove(nonce=secrets.token_bytes(NONCE_SIZE), broker_id="usher hwkey prove", purpose="presence")
            row["proven"] = True
        finally:
            opened.close()
    except HwkeyError as error:
        row["reason"] = str(error)
    return row


def _what(port: KeyPort) -> str:
    return f"{port.product or 'security key'}{' (EMULATED)' if port.is_emulated else ''}"


def _json(port: KeyPort) -> dict[str, Any]:
    return {
        "place": port.usb_path,
        "product": port.product,
        "serial": port.serial,
        "vendor_id": port.vendor_id,
        "product_id": port.product_id,
        "emulated": port.is_emulated,
        "usable": port.refusal is None,
        "reason": port.refusal or "",
    }
