"""Who may import whom: the contracts of pyproject.toml, and what they cannot say."""

from __future__ import annotations

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

from tests.house.source_tree import PRODUCT, ROOT, imported_modules, module_name, modules, name_of

USB_FILES_MAX = 2

CLIENT_NEVER_LOADS = (
    "broker._h2", "broker._ledger", "broker._listener", "broker._tls", "broker._wire", "broker.app", "broker.cli", "broker.keyring",
    "broker.licence", "broker.model", "broker.service", "broker.verbs", "broker.web", "click", "cryptography", "hwkey",
    "jwt", "prometheus_client", "rich", "starlette", "usb", "uvicorn",
)  # fmt: skip


def test_all_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-logo"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_no_module_imports_itself_through_others() -> None:
    known = {module_name(path): path for path in modules(*PRODUCT)}
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = {target for target, _ in imported_modules(path) if target in known}
        # `from broker import client` imports broker first, but needs nothing of it: packages are no edge to their parts.
        graph[name] = {target for target in targets if not name.startswith(target + ".")} - {name}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None
    assert len(order) == len(known)


def test_only_two_files_import_usb() -> None:
    found = {
        name_of(path)
        for path in modules(*PRODUCT)
        for target, _ in imported_modules(path)
        if target.partition(".")[0] == "usb"
    }
    assert len(found) <= USB_FILES_MAX, sorted(found)
    assert all(name.startswith("hwkey/") for name in found), sorted(found)


def test_relative_imports_are_not_used() -> None:
    import ast

    from tests.house.source_tree import tree_of

    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules(*PRODUCT)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


def test_client_imports_where_nothing_of_the_server_can_be() -> None:
    program = f"""
import sys
from importlib.abc import MetaPathFinder

class Nothing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == never or name.startswith(never + ".") for never in {CLIENT_NEVER_LOADS!r}):
            raise ImportError(f"a client install has no {{name}}")

sys.meta_path.insert(0, Nothing())
import broker.client
print("imported")
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.stdout == "imported\n", answer.stderr
