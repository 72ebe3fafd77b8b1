"""`usher hwkey`: keys found and proven without a broker, and the commands that prepare a real one."""

from pathlib import Path

import pytest

from broker.exit_codes import ExitCode
from hwkey.emulated import Fault, FaultKind, TokenFleet, emulated_bus
from tests.support.usher_command import usher


def test_keys_are_listed_and_prove_themselves(tmp_path: Path) -> None:
    fleet = TokenFleet(tmp_path / "fleet")
    thumbprints = [fleet.create(name).thumbprint for name in ("a", "b")]
    listed = usher("hwkey", "list", "--emulated", tmp_path / "fleet", "--json").json["keys"]
    assert [(one["usable"], one["emulated"]) for one in listed] == [(True, True)] * 2
    assert "EMULATED" in usher("hwkey", "list", "--emulated", tmp_path / "fleet").out
    done = usher("hwkey", "prove", "--emulated", tmp_path / "fleet", "--json")
    assert done.code == 0
    assert [(one["proven"], one["thumbprint"]) for one in done.json["keys"]] == [(True, one) for one in thumbprints]
    one = usher("hwkey", "prove", listed[1]["place"], "--emulated", tmp_path / "fleet")
    assert thumbprints[1] in one.out
    assert thumbprints[0] not in one.out


def test_key_that_answers_wrongly_is_not_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = TokenFleet()
    fleet.create("a").faults.append(Fault(FaultKind.BAD_SIGNATURE))
    monkeypatch.setattr("broker.cli.hwkey._bus", lambda _: emulated_bus(fleet))
    done = usher("hwkey", "prove", "--json")
    assert done.code == ExitCode.CONFIG
    (row,) = done.json["keys"]
    assert not row["proven"]
    assert row["reason"]


def test_no_key_at_a_place_is_said(tmp_path: Path) -> None:
    done = usher("hwkey", "prove", "9-9", "--emulated", tmp_path / "fleet")
    assert done.code == ExitCode.CONFIG
    assert "There is no such key." in done.out


@pytest.mark.parametrize("tool", ["ykman", "yubico-piv-tool"])
def test_preparation_makes_the_key_on_the_token_without_pin_or_touch(tool: str) -> None:
    commands = usher("hwkey", "prepare", "--tool", tool, "--json").json["commands"]
    text = usher("hwkey", "prepare", "--tool", tool).out
    assert all(one in text for one in commands)
    generate = commands[1].lower()
    assert all(word in generate for word in ("9e", "eccp256", "pin-policy", "never", "touch-policy"))
    assert "--on-key public.pem" in commands[2]
