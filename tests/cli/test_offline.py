"""The commands that need no broker: vendor, config, version, help; and what every command has in common."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.app.config import Config
from broker.cli.commands import COMMANDS
from broker.cli.commands import usher as usher_group
from broker.exit_codes import ExitCode
from hwkey.emulated import EmulatedToken
from tests.support.broker_process import process_environment
from tests.support.toml_text import toml_text
from tests.support.usher_command import usher

THUMBPRINT = "-" + "A" * 42


def all_commands(command: click.Command = usher_group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from all_commands(inner, (*path, name))
        if not command.invoke_without_command:
            return
    yield path


def run_python(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=process_environment(), timeout=60
    )


# --- what they have in common ----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", sorted(all_commands()), ids=" ".join)
def test_every_command_explains_itself_and_speaks_json(words: tuple[str, ...]) -> None:
    done = usher(*words, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: usher {words[0]}")
    assert "--json" in done.out


def test_table_of_commands_says_what_each_is_for() -> None:
    out = usher("--help").out
    assert all(name in out and says.rstrip(".")[:30] in out for name, (_, says) in COMMANDS.items())


def test_wrong_command_line_ends_with_two() -> None:
    for words in (["nonsense"], ["open"], ["vendor", "issue"], ["seats", "--nonsense"], ["serve", "--clients", "x"], []):
        done = usher(*words)
        assert done.code == ExitCode.USAGE, words
        assert "Traceback" not in done.err + done.out


def test_help_loads_neither_grpc_nor_cryptography_nor_the_ledger() -> None:
    done = run_python(
        "import sys\nfrom broker.cli.main import main\nmain(['--help'])\n"
        "print(sorted({'grpc', 'cryptography', 'broker._ledger', 'uvicorn'} & set(sys.modules)))"
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_install_without_compiled_parts_says_how_to_get_them(tmp_path: Path) -> None:
    done = run_python(
        "import sys\nsys.modules['broker._ledger'] = None\nfrom broker.cli.main import main\n"
        f"sys.exit(main(['serve', '--emulate', '--data-dir', {str(tmp_path / 'data')!r}]))"
    )
    assert done.returncode == ExitCode.COMPILED_PARTS_MISSING
    assert "no compiled parts, so it can be a client but not a broker: install" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("click", ["version"]),
        ("rich", ["version"]),
        ("uvicorn", ["serve", "--emulate", *(f"--{port}=127.0.0.1:0" for port in ("clients", "admin", "http"))]),
    ],
)
def test_client_only_install_says_which_library_the_command_lacks(
    tmp_path: Path, missing: str, words: list[str]
) -> None:
    done = run_python(
        f"import os, sys\nos.environ['USHER_DATA_DIR'] = {str(tmp_path)!r}\nsys.modules[{missing!r}] = None\n"
        f"from broker.cli.main import main\nsys.exit(main({words!r}))"
    )
    assert done.returncode == ExitCode.COMPILED_PARTS_MISSING
    assert done.stderr.startswith(f"usher: the command line needs {missing}, which is not installed: pip install")


def test_version_says_whether_a_broker_can_run() -> None:
    assert usher("version", "--json").json["compiled"] is True
    assert usher("--version").out.startswith("usher ")


# --- usher config ------------------------------------------------------------------------------------------------


def config_file(directory: Path, sections: Mapping[str, Mapping[str, object]]) -> Path:
    path = directory / "usher.toml"
    path.write_text(toml_text({"broker": {"data_dir": "data"}, **sections}))
    return path


def test_shown_defaults_pass_the_check(tmp_path: Path) -> None:
    path = tmp_path / "usher.toml"
    path.write_text(usher("config", "show-defaults").out)
    done = usher("config", "check", path, "--data-dir", tmp_path)
    assert done.code == 0
    assert f"{path} is valid." in done.out
    shown = usher("config", "show-defaults", "--json").json
    assert shown["clients"]["address"] == str(Config().clients.address)


def test_check_names_every_fault_and_ends_with_four(tmp_path: Path) -> None:
    path = config_file(tmp_path, {"clients": {"adress": "x"}, "log": {"level": "loud"}})
    done = usher("config", "check", path)
    assert done.code == ExitCode.CONFIG
    assert "clients.adress: is no known entry; did you mean clients.address?" in done.out
    faults = usher("config", "check", path, "--json").json["faults"]
    assert [one["entry"] for one in faults] == ["clients.adress", "log.level"]
    assert all(one["file"] == str(path) and one["reason"] and one["remedy"] for one in faults)


def test_check_reads_certificates_and_trust_files_too(tmp_path: Path) -> None:
    tls = {"certificate": "none.pem", "private_key": "none.pem"}
    path = config_file(tmp_path, {"http": {"tls": tls}})
    (fault,) = usher("config", "check", path, "--json").json["faults"]
    assert fault["entry"] == "http.tls.certificate"
    path = config_file(tmp_path, {"licences": {"trust": "none.json"}})
    (fault,) = usher("config", "check", path, "--json").json["faults"]
    assert fault["entry"] == "licences.trust"


def test_check_says_of_each_licence_whether_it_counts(tmp_path: Path) -> None:
    make_vendor(tmp_path / "acme")
    folder = tmp_path / "data" / "licences"
    folder.mkdir(parents=True)
    issue(tmp_path / "acme", folder / "good.jwt")
    issue(tmp_path / "acme", folder / "later.jwt", "--from", "2999-01-01")
    issue(tmp_path / "acme", folder / "old.jwt", "--from", "2001-01-01", "--days", 1)
    (folder / "rubbish.jwt").write_text("rubbish")
    path = config_file(tmp_path, {"licences": {"trust": "acme/vendor.jwks.json"}})
    done = usher("config", "check", path, "--json")
    assert done.code == 0
    verdicts = {row["file"]: row["verdict"] for row in done.json["licences"]}
    assert verdicts == {
        "good.jwt": "accepted",
        "later.jwt": "not yet valid",
        "old.jwt": "expired",
        "rubbish.jwt": "refused: malformed",
    }
    assert all(row["reason"] for row in done.json["licences"] if row["verdict"] != "accepted")
    assert "good.jwt" in usher("config", "check", path).out


def test_file_that_is_not_there_is_one_sentence() -> None:
    done = usher("config", "check", "/nowhere/usher.toml")
    assert done.code == ExitCode.CONFIG
    assert "/nowhere/usher.toml: cannot be read" in done.out + done.err


# --- usher vendor ---------------------------------------------------------------------------------------------------


def make_vendor(directory: Path, *more: object) -> None:
    done = usher("vendor", "init", directory, "--name", "Acme", "--product", "crm", "--product", "platform", *more)
    assert done.code == 0, done.err


def issue(vendor: Path, out: Path, *more: object) -> None:
    words = ("--product", "crm", "--seats", 10, "--thumbprint", THUMBPRINT, "--out", out)
    done = usher("vendor", "issue", vendor, *words, *more)
    assert done.code == 0, done.err


def test_vendor_is_made_once_and_its_private_key_is_its_own(tmp_path: Path) -> None:
    made = usher("vendor", "init", tmp_path / "v", "--name", "Acme", "--product", "crm", "--json").json
    assert made["products"] == ["crm"]
    assert made["test"] is False
    assert Path(made["private_key"]).stat().st_mode & 0o077 == 0
    again = usher("vendor", "init", tmp_path / "v", "--name", "Acme", "--product", "crm")
    assert again.code == ExitCode.CONFIG
    assert "is never overwritten" in again.err


def test_issued_licence_says_what_was_asked_for_and_is_accepted(tmp_path: Path) -> None:
    make_vendor(tmp_path / "v")
    issue(tmp_path / "v", tmp_path / "l.jwt", "--customer", "Ромашка", "--days", 30, "--terms", '{"sharing": "user"}')
    done = usher("vendor", "inspect", tmp_path / "l.jwt", "--trust", tmp_path / "v" / "vendor.jwks.json", "--json")
    assert done.code == 0
    claims = done.json["claims"]
    assert (claims["product"], claims["seats"], claims["sub"]) == ("crm", 10, "Ромашка")
    assert claims["exp"] - claims["nbf"] == 30 * 86_400
    assert claims["terms"] == {"sharing": "user"}
    assert claims["cnf"] == {"jkt": THUMBPRINT}
    assert done.json["accepted"] is True


def test_until_means_the_end_of_that_day(tmp_path: Path) -> None:
    make_vendor(tmp_path / "v")
    issue(tmp_path / "v", tmp_path / "l.jwt", "--until", "2999-12-31")
    text = usher("vendor", "inspect", tmp_path / "l.jwt", "--trust", tmp_path / "v" / "vendor.jwks.json").out
    assert "3000-01-01T00:00:00+00:00" in text
    assert "Accepted: it would count" in text


def test_licence_goes_to_standard_output_and_back_in(tmp_path: Path) -> None:
    make_vendor(tmp_path / "v", "--test")
    words = ("--product", "crm", "--seats", 1, "--thumbprint", THUMBPRINT)
    document = usher("vendor", "issue", tmp_path / "v", *words).out
    assert document.count(".") == 2
    issued = usher("vendor", "issue", tmp_path / "v", *words, "--licence-id", "one", "--json").json
    assert (issued["licence"], issued["vendor"], issued["file"]) == ("one", "Acme", None)


def test_licence_of_somebody_else_is_shown_and_refused(tmp_path: Path) -> None:
    make_vendor(tmp_path / "v")
    make_vendor(tmp_path / "other")
    issue(tmp_path / "v", tmp_path / "l.jwt")
    done = usher("vendor", "inspect", tmp_path / "l.jwt", "--trust", tmp_path / "other" / "vendor.jwks.json", "--json")
    assert done.code == ExitCode.CONFIG
    assert done.json["accepted"] is False
    assert done.json["reason"] == "kid_unknown"
    assert done.json["claims"]["product"] == "crm"


def test_licences_are_written_onto_a_key_one_after_the_other(tmp_path: Path) -> None:
    make_vendor(tmp_path / "v")
    token = EmulatedToken.create(serial="a")
    public = tmp_path / "public.pem"
    public.write_bytes(token.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    words = ("vendor", "issue", tmp_path / "v", "--product", "crm", "--seats", 5, "--on-key")
    first = usher(*words, public, "--out", tmp_path / "1.pem")
    assert first.code == 0, first.err
    assert "carries 1 licence in" in first.out
    made = usher(*words, tmp_path / "1.pem", "--thumbprint", token.thumbprint, "--licence-id", "second", "--json").json
    assert (made["thumbprint"], made["licences"], made["licence"]) == (token.thumbprint, 2, "second")
    (tmp_path / "2.pem").write_text(made["certificate"])
    seen = usher("vendor", "inspect", tmp_path / "2.pem", "--trust", tmp_path / "v" / "vendor.jwks.json", "--json")
    assert seen.code == 0
    assert seen.json["thumbprint"] == token.thumbprint
    assert [(one["accepted"], one["claims"]["seats"]) for one in seen.json["licences"]] == [(True, 5), (True, 5)]
    assert "carries 2 licences" in usher("vendor", "inspect", tmp_path / "2.pem").out
    assert usher("vendor", "inspect", tmp_path / "2.pem").code == ExitCode.CONFIG, "nobody is trusted"
    assert usher(*words, public, "--thumbprint", THUMBPRINT).code == ExitCode.USAGE
    assert usher(*words, tmp_path / "v" / "vendor.pem").code == ExitCode.CONFIG
    assert "by --thumbprint, or by --on-key" in usher(*words[:-1]).err


def test_revoked_licences_are_listed_under_a_number_that_grows(tmp_path: Path) -> None:
    make_vendor(tmp_path / "v")
    first = usher("vendor", "revoke", tmp_path / "v", "crm-10-a", "--json").json
    assert (first["number"], first["revoked"]) == (1, ["crm-10-a"])
    out = tmp_path / "acme.revocations"
    done = usher("vendor", "revoke", tmp_path / "v", "crm-10-b", "--out", out)
    assert "List 2 of Acme revokes 2 licences" in done.out
    seen = usher("vendor", "inspect", out, "--trust", tmp_path / "v" / "vendor.jwks.json", "--json").json
    assert (seen["accepted"], seen["claims"]["revoked"]) == (True, ["crm-10-a", "crm-10-b"])
    assert "list 2 of Acme would revoke 2 licences" in seen["message"]
    assert usher("vendor", "revoke", tmp_path / "v").code == ExitCode.USAGE
    assert usher("vendor", "revoke", tmp_path / "v", "no id").code == ExitCode.CONFIG


def test_revoked_licence_is_named_by_the_check_of_a_configuration(tmp_path: Path) -> None:
    make_vendor(tmp_path / "acme")
    folder = tmp_path / "data" / "licences"
    folder.mkdir(parents=True)
    issue(tmp_path / "acme", folder / "l.jwt", "--licence-id", "one")
    assert usher("vendor", "revoke", tmp_path / "acme", "one", "--out", folder / "acme.revocations").code == 0
    path = config_file(tmp_path, {"licences": {"trust": "acme/vendor.jwks.json"}})
    (row,) = usher("config", "check", path, "--json").json["licences"]
    assert (row["verdict"], row["licence"]) == ("refused: revoked", "one")


@pytest.mark.parametrize("text", ["", "rubbish", "a.b.c", "\x1b[31m"])
def test_rubbish_is_refused_without_a_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "l.jwt"
    path.write_text(text)
    done = usher("vendor", "inspect", path)
    assert done.code == ExitCode.CONFIG
    assert "Refused: " in done.out
    assert "\x1b" not in done.out


WRONG_ORDERS = [
    (("--product", "fax", "--seats", "1"), ExitCode.CONFIG, "no broker would accept this licence"),
    (("--product", "crm", "--seats", "0"), ExitCode.USAGE, "0 is not in the range"),
    (("--product", "crm", "--seats", "1", "--terms", "["), ExitCode.USAGE, "is no JSON object"),
    (("--product", "crm", "--seats", "1", "--terms", "[]"), ExitCode.USAGE, "is no JSON object"),
    (("--product", "crm", "--seats", "1", "--terms", '{"sharing": "team"}'), ExitCode.CONFIG, '--terms: its term "sharing"'),
    (("--product", "crm", "--seats", "1", "--days", "1", "--until", "2030-01-01"), ExitCode.USAGE, "give one"),
    (("--product", "crm", "--seats", "1", "--licence-id", "not an id"), ExitCode.CONFIG, "no broker would accept"),
]


@pytest.mark.parametrize(("words", "code", "sentence"), WRONG_ORDERS)
def test_order_that_makes_no_licence_is_refused(tmp_path: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    make_vendor(tmp_path / "v")
    done = usher("vendor", "issue", tmp_path / "v", *words, "--thumbprint", THUMBPRINT, "--out", tmp_path / "l.jwt")
    assert done.code == code
    assert sentence in done.err
    assert not (tmp_path / "l.jwt").exists()


def test_vendor_that_is_not_there_is_named(tmp_path: Path) -> None:
    words = ("--product", "crm", "--seats", 1, "--thumbprint", THUMBPRINT)
    done = usher("vendor", "issue", tmp_path / "none", *words)
    assert done.code == ExitCode.CONFIG
    assert "make a vendor there first" in done.err
    assert json.dumps(str(tmp_path))[1:-1] in done.err
