"""That the documents name only files, commands and headings that exist."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

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
