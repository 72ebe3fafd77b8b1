"""`usher vendor`: a vendor's own work, offline: make a key pair, issue licences, revoke them, inspect a document."""

from __future__ import annotations

import datetime
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.cli.options import DIRECTORY, FILE, json_option
from broker.cli.output import print_json, print_table, say
from broker.exit_codes import ExitCode
from broker.licence import (
    Inspection,
    Licence,
    LicenceTerms,
    Refusal,
    RevocationList,
    TokenFile,
    TrustFile,
    Vendor,
    VendorError,
    create_vendor,
    inspect_licence,
    issue_certificate,
    issue_licence,
    load_vendor,
    read_token_file,
    revoke_licences,
)
from broker.licence.bounds import CERTIFICATE_SIZE_SURE, REVOCATION_LIST_SIZE_MAX, SEATS_MAX, SEATS_MIN
from broker.licence.refusal import Refused
from broker.licence.revoke import own_list_path
from broker.licence.terms import parse_terms
from hwkey import thumbprint_of

DAY = datetime.timedelta(days=1)


@click.group()
def vendor() -> None:
    """Issue licences (for vendors; works offline)."""


@vendor.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--name", required=True, help="The vendor's name, as customers know it.")
@click.option("--product", "products", multiple=True, required=True, help="A product it may license (repeatable).")
@click.option("--test", "is_test", is_flag=True, help="A test vendor: all its licences are EMULATED.")
@json_option
def init(directory: Path, name: str, products: tuple[str, ...], is_test: bool, is_json: bool) -> None:
    """Make a vendor in DIRECTORY: a private key to guard, and a trust file to give to customers."""
    made = create_vendor(directory, name, products, is_test=is_test)
    if is_json:
        print_json(_vendor_json(made))
        return
    say(f"Made the {'test ' if is_test else ''}vendor {name} for {', '.join(sorted(products))}.")
    say(f"Guard {made.private_path}: who has it can issue licences in your name.")
    say(f"Give {made.trust_path} to customers: a broker's [licences] trust names it.")


@vendor.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--product", required=True, help="The product's id.")
@click.option("--seats", type=click.IntRange(SEATS_MIN, SEATS_MAX), required=True, help="How many.")
@click.option("--thumbprint", default=None, help="The security key it is bound to (see `usher keys --json`).")
@click.option(
    "--on-key", type=FILE, help="Write it onto the key with this public key or certificate: makes its new 9E certificate."
)
@click.option("--licence-id", default=None, help="Its id, each used once. [default: a random one]")
@click.option("--customer", default="", help="Who it is for.")
@click.option("--days", type=click.IntRange(1), help="Valid for so many days. [default: perpetual]")
@click.option("--from", "valid_from", type=click.DateTime(["%Y-%m-%d"]), help="Valid from this day (UTC). [default: now]")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Valid until the end of this day (UTC).")
@click.option("--terms", "terms_text", default="{}", help='Its terms as JSON: \'{"sharing": "user"}\'.')
@click.option("--out", type=FILE, help="Write it there. [default: standard output]")
@json_option
def issue(
    directory: Path,
    product: str,
    seats: int,
    thumbprint: str | None,
    on_key: Path | None,
    licence_id: str | None,
    customer: str,
    days: int | None,
    valid_from: datetime.datetime | None,
    until: datetime.datetime | None,
    terms_text: str,
    out: Path | None,
    is_json: bool,
) -> None:
    """Issue a licence, signed by the vendor in DIRECTORY: as a file, or with --on-key as a certificate that carries it."""
    token = None if on_key is None else read_token_file(on_key.read_bytes(), str(on_key))
    bound_to = _binding(thumbprint, token)
    if days is not None and until is not None:
        raise click.UsageError("--days and --until say the same in two ways: give one")
    now_unix_s = int(time.time())
    begin_unix_s = _midnight(valid_from) if valid_from else now_unix_s
    signer = load_vendor(directory)
    chosen_id = licence_id or f"{product}-{seats}-{secrets.token_hex(6)}"
    document = issue_licence(
        signer,
        licence_id=chosen_id,
        product=product,
        seats=seats,
        thumbprint=bound_to,
        issued_unix_s=now_unix_s,
        not_before_unix_s=begin_unix_s,
        expires_unix_s=_expiry(begin_unix_s, days, until),
        customer=customer,
        terms=_terms(terms_text, product),
    )
    if token is not None:
        made = issue_certificate(signer, token.public, [*token.documents, document], now_unix_s)
        _deliver_certificate(made, len(token.documents) + 1, bound_to, out, chosen_id, is_json)
        return
    _deliver(document, out, chosen_id, signer, is_json)


@vendor.command()
@click.argument("directory", type=DIRECTORY)
@click.argument("licence_ids", metavar="LICENCE...", nargs=-1, required=True)
@click.option("--out", type=FILE, help="Write the list there too, to be given to customers.")
@json_option
def revoke(directory: Path, licence_ids: tuple[str, ...], out: Path | None, is_json: bool) -> None:
    """Take back licences by their ids: the vendor in DIRECTORY signs a new list of all that it ever revoked.

    Brokers obey the list with the highest number from the moment it lies in their licence folder and they reload.
    """
    signer = load_vendor(directory)
    made = revoke_licences(signer, licence_ids, int(time.time()))
    path = own_list_path(signer)
    if out is not None:
        out.write_bytes(path.read_bytes())
    if is_json:
        print_json({"vendor": made.vendor, "number": made.number, "revoked": sorted(made.revoked), "file": str(out or path)})
        return
    say(f"List {made.number} of {made.vendor} revokes {len(made.revoked)} licences: {out or path}.")
    say("Give it to customers: it belongs into the broker's licence folder under a name that ends with .revocations.")


@vendor.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--trust", type=FILE, multiple=True, help="Trust files to judge it by (repeatable).")
@json_option
def inspect(file: Path, trust: tuple[Path, ...], is_json: bool) -> int:
    """Show everything that FILE says, and whether it would count: a licence, a revocation list, or a key's certificate with
    the licences on it. FILE may be - for standard input.

    Ends with 4 if something in it would not count now.
    """
    data, trusted, now_unix_s = _read(file), TrustFile.load(*trust), int(time.time())
    if b"-----BEGIN" not in data:
        inspection = inspect_licence(data, trusted, now_unix_s)
        print_json(_inspection_json(inspection)) if is_json else _show(inspection)
        return ExitCode.CONFIG if isinstance(inspection.verdict, Refusal) else ExitCode.DONE
    token = read_token_file(data, str(file))
    thumbprint = thumbprint_of(token.public)
    found = [inspect_licence(one, trusted, now_unix_s, on_key=thumbprint) for one in token.documents]
    if is_json:
        print_json({"thumbprint": thumbprint, "licences": [_inspection_json(one) for one in found]})
    else:
        say(f"Key {thumbprint} carries {len(found)} licences.")
        for one in found:
            _show(one)
    is_good = found and not any(isinstance(one.verdict, Refusal) for one in found)
    return ExitCode.DONE if is_good else ExitCode.CONFIG


def _inspection_json(inspection: Inspection) -> dict[str, Any]:
    verdict = inspection.verdict
    return {
        "header": dict(inspection.header),
        "claims": dict(inspection.claims),
        "accepted": not isinstance(verdict, Refusal),
        "reason": verdict.reason.value if isinstance(verdict, Refusal) else None,
        "message": _judgement(verdict),
    }


def _show(inspection: Inspection) -> None:
    rows = [(name, _shown(name, value)) for name, value in (*inspection.header.items(), *inspection.claims.items())]
    print_table(("Claim", "Says"), rows, empty="Nothing in it can be read.")
    is_accepted = not isinstance(inspection.verdict, Refusal)
    say(
        ("Accepted: " if is_accepted else "Refused: ") + _judgement(inspection.verdict),
        style="green" if is_accepted else "red",
    )


def _judgement(verdict: Licence | RevocationList | Refusal) -> str:
    if isinstance(verdict, Refusal):
        return verdict.sentence
    if isinstance(verdict, RevocationList):
        return f"list {verdict.number} of {verdict.vendor} would revoke {len(verdict.revoked)} licences"
    return "it would count"


def _deliver(document: str, out: Path | None, licence_id: str, signer: Vendor, is_json: bool) -> None:
    if out is not None:
        out.write_text(document + "\n")
    if is_json:
        where = str(out) if out else None
        print_json({"licence": licence_id, "vendor": signer.entry.vendor, "file": where, "document": document})
    elif out is not None:
        say(f"Issued licence {licence_id}: {out}. It belongs into the broker's licence folder.")
    else:
        print(document)


def _deliver_certificate(
    made: x509.Certificate, count: int, thumbprint: str, out: Path | None, licence_id: str, is_json: bool
) -> None:
    pem, size = made.public_bytes(Encoding.PEM).decode(), len(made.public_bytes(Encoding.DER))
    if out is not None:
        out.write_text(pem)
    if is_json:
        where = str(out) if out else None
        print_json(
            {"licence": licence_id, "thumbprint": thumbprint, "licences": count, "size": size, "file": where, "certificate": pem}
        )
    elif out is None:
        print(pem, end="")
    else:
        say(f"Issued licence {licence_id}: {out} carries {count} {'licence' if count == 1 else 'licences'} in {size} bytes.")
        if size > CERTIFICATE_SIZE_SURE:
            say(f"That is over the {CERTIFICATE_SIZE_SURE} bytes that every token has room for; a YubiKey takes it.")
        say("It belongs into slot 9E of the key: `usher hwkey prepare` prints the commands.")


def _binding(thumbprint: str | None, token: TokenFile | None) -> str:
    """The thumbprint that the licence is for: what was said, or what the key's file says, or both if they agree."""
    if token is None:
        if thumbprint is None:
            raise click.UsageError("give the key by --thumbprint, or by --on-key")
        return thumbprint
    found = thumbprint_of(token.public)
    if thumbprint not in (None, found):
        raise click.UsageError(f"--on-key is the key {found}, and --thumbprint names another")
    return found


def _vendor_json(made: Vendor) -> dict[str, Any]:
    return {
        "vendor": made.entry.vendor,
        "kid": made.entry.kid,
        "products": sorted(made.entry.products),
        "test": made.entry.is_test,
        "private_key": str(made.private_path),
        "trust_file": str(made.trust_path),
    }


def _terms(text: str, product: str) -> LicenceTerms:
    try:
        members = json.loads(text)
        if not isinstance(members, dict):
            raise ValueError("not an object")
        return parse_terms(members, product)
    except ValueError as error:
        raise click.BadParameter(f"is no JSON object: {error}", param_hint="--terms") from None
    except Refused as refused:
        raise VendorError(f"--terms: {refused}") from None


def _expiry(begin_unix_s: int, days: int | None, until: datetime.datetime | None) -> int | None:
    if until is not None:
        return _midnight(until + DAY)
    return None if days is None else begin_unix_s + days * int(DAY.total_seconds())


def _midnight(day: datetime.datetime) -> int:
    return int(day.replace(tzinfo=datetime.UTC).timestamp())


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read(REVOCATION_LIST_SIZE_MAX + 1)
    with file.open("rb") as opened:
        return opened.read(REVOCATION_LIST_SIZE_MAX + 1)


def _shown(name: str, value: Any) -> str:
    if name in ("iat", "nbf", "exp") and isinstance(value, int) and 0 <= value < 2**37:
        return datetime.datetime.fromtimestamp(value, datetime.UTC).isoformat(timespec="seconds")
    return value if isinstance(value, str) else json.dumps(value)
