"""How our own sources must read: docs/HACKING.md lists the rules, this holds them."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from tests.house.source_tree import (
    EVERYTHING,
    PRODUCT,
    ROOT,
    code_line_count,
    defined_names,
    functions,
    modules,
    name_of,
    tree_of,
)

MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60

TEST_NAME_WORDS_MIN = 3

AMBIGUOUS = {"key", "license", "handle", "timeout"}
"""Words with several meanings here: say security_key, field, licence, lease, device, wait_limit_ns ..."""

FOREIGN_SIGNATURES = {
    "broker/client/aio.py": {"timeout"},  # grpc's own keyword
    "broker/client/sync.py": {"timeout"},
    "hwkey/emulated/backend.py": {"timeout"},  # usb.backend.IBackend names its arguments so
    "tests/hwkey/test_usb_transport.py": {"handle"},
}

AMERICAN = re.compile(
    r"\b(behavior|color|favor|honor|neighbor|initialize|serialize|organize|recognize|unauthorized|canceled|labeled|"
    r"normalize|synchronize|finalize|center|catalog|analyze)\w*\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", modules(*EVERYTHING), ids=name_of)
def test_module_opens_with_what_it_knows(path: Path) -> None:
    head = ast.get_docstring(tree_of(path))
    assert head, f"{name_of(path)} has no head comment: a noun phrase that says what the module knows"
    first_line = head.splitlines()[0]
    assert first_line.endswith((".", ":", "?")), f"{name_of(path)}: the first line is not a sentence: {first_line!r}"


def cython_sources() -> list[Path]:
    """Sources and declarations of the compiled parts."""
    return sorted(path for suffix in ("pxd", "pxi", "pyx") for path in (ROOT / "ext").rglob(f"*.{suffix}"))


@pytest.mark.parametrize("path", cython_sources(), ids=name_of)
def test_compiled_source_opens_with_what_it_knows(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if line and not line.startswith(("# cython:", "# distutils:")))
    assert first.startswith(('"""', "# ")), f"{name_of(path)} has no head comment"
    assert len(first.strip('"# ').split()) > 3, f"{name_of(path)}: its head says nothing: {first!r}"


def test_no_module_is_too_long() -> None:
    counts = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(*EVERYTHING)}
    assert {name: count for name, count in counts.items() if count > MODULE_LINES_MAX} == {}


def test_no_function_is_too_long() -> None:
    too_long = {
        f"{name_of(path)}:{function.lineno} {function.name}": code_line_count(function)
        for path in modules(*EVERYTHING)
        for function in functions(path)
        if code_line_count(function) > FUNCTION_LINES_MAX
    }
    assert too_long == {}


def test_no_identifier_is_a_bare_ambiguous_word() -> None:
    found = [
        f"{name_of(path)}:{line} {name}"
        for path in modules(*EVERYTHING)
        for name, line in defined_names(path)
        if name.strip("_").lower() in AMBIGUOUS - FOREIGN_SIGNATURES.get(name_of(path), set())
    ]
    assert found == []


def test_names_of_tests_are_sentences() -> None:
    not_sentences = [
        f"{name_of(path)}:{function.lineno} {function.name}"
        for path in modules("tests")
        if path.name.startswith("test_")
        for function in functions(path)
        if function.name.startswith("test") and len(re.findall(r"_[a-z]+", function.name)) < TEST_NAME_WORDS_MIN
    ]
    assert not_sentences == []


def test_comments_and_documents_are_in_british_spelling() -> None:
    found = []
    texts = [*modules(*PRODUCT, "loadtests", "tools"), *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for path in texts:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            prose = line if path.suffix == ".md" else line.partition("#")[2]
            if match := AMERICAN.search(re.sub(r"`[^`]*`", "", prose)):
                found.append(f"{name_of(path)}:{number} {match.group()}")
    assert found == []


def test_no_stub_is_left_in_the_product() -> None:
    found = []
    for path in modules(*PRODUCT):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if re.search(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError", line):
                found.append(f"{name_of(path)}:{number} {line.strip()}")
    assert found == []


def test_scripts_can_be_executed() -> None:
    for script in (ROOT / "tools" / "setup", ROOT / ".ci" / "run"):
        assert os.access(script, os.X_OK), f"{script} is not executable"
