"""Where our own Python sources are, and what they define: the ground of the tests about style and structure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PRODUCT = ("broker", "hwkey")
"""What is shipped."""

EVERYTHING = (*PRODUCT, "loadtests", "tests", "tools", "deploy")

GENERATED = "broker/v1/"


def modules(*folders: str) -> list[Path]:
    """Python files written by hand under these folders, in a stable order."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if not name_of(path).startswith(GENERATED))


def name_of(path: Path) -> str:
    """The path as people write it: from the root, with slashes."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    """`broker/app/config.py` -> `broker.app.config`."""
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_line_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    end = function.end_lineno or function.lineno
    count = end - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        first = function.body[0]
        count -= (first.end_lineno or first.lineno) - first.lineno + 1
    return count


def defined_names(path: Path) -> Iterator[tuple[str, int]]:
    """Each name that the file itself gives to something, with its line: not the names of what it calls."""
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """Each dotted name that the file imports, also inside functions; `from a import b` gives both a and a.b."""
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(level=0, module=str(module), names=names):
                yield module, node.lineno
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in names)
