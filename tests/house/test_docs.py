"""That the documents name only files, commands and headings that exist."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import click
import pytest

from broker.cli.commands import usher
from broker.exit_codes import ExitCode
from tests.house.source_tree import ROOT, name_of

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]

EXPECTED = ("ARCHITECTURE", "BENCHMARKS", "GLOSSARY", "HACKING", "OPERATING", "THREAT_MODEL")

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")

TOP_FOLDERS = ("broker", "deploy", "docs", "ext", "hwkey", "loadtests", "proto", "tests", "tools")


@cache
def make_targets() -> set[str]:
    """What the Makefile can do."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def anchor(heading: str) -> str:
    """A heading's anchor, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """All the anchors of a document."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {anchor(heading) for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        place, _, fragment = target.partition("#")
        if place.startswith(("http:", "https:")):
            continue
        linked = path if not place else (path.parent / place).resolve()
        if not linked.exists() or (fragment and fragment not in anchors(linked)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_make_targets_exist(path: Path) -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)\b(?=[`\s]*(?:$|[`#|;,.)]|ARGS|\s{2}))", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert named - make_targets() == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_files_exist(path: Path) -> None:
    folders = "|".join(TOP_FOLDERS)
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def complaint_about(words: list[str]) -> str:
    """What is wrong with a command line of `usher` as far as its commands and options go; empty if nothing is."""
    command: click.Command = usher
    context = click.Context(command)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z-]+", words[0]) and words[0][0] != "-":
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]}"
        command, words = found, words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known | {"--help"}]
    return f"no option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_usher_commands_and_options_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = [*re.findall(r"`usher ([^`]+)`", text), *re.findall(r"^usher ([^#\n]+)", text, re.MULTILINE)]
    complaints = {line: complaint_about(line.split()) for line in lines}
    assert {line: complaint for line, complaint in complaints.items() if complaint} == {}


def test_documented_exit_statuses_are_those_of_the_program() -> None:
    section = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8").partition("## Exit status")[2]
    assert {int(number) for number in re.findall(r"\b(\d+) [a-z]", section)} == {code.value for code in ExitCode}


def test_every_document_that_was_promised_is_there() -> None:
    assert [name for name in EXPECTED if not (ROOT / "docs" / f"{name}.md").exists()] == []


def test_make_alone_lists_the_commands() -> None:
    answer = subprocess.run(["make", "-s", "-C", str(ROOT)], capture_output=True, text=True, check=True)
    for target in ("run", "demo", "test", "lint", "bench", "load"):
        assert f"make {target} " in answer.stdout


def test_help_lists_every_target_that_can_be_called() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert set(phony.group(1).split()) == make_targets()
