"""Who may import what: two files know pyusb, and nothing of the key driver knows the broker."""

from __future__ import annotations

import ast
from pathlib import Path

import hwkey

ROOT = Path(hwkey.__file__).parent


def imports_of(path: Path) -> set[str]:
    """First words of everything that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_two_files_import_usb() -> None:
    importing = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if "usb" in imports_of(path)}
    assert importing == {"usb_transport.py", "emulated/backend.py"}


def test_no_file_imports_broker() -> None:
    assert not [path for path in ROOT.rglob("*.py") if "broker" in imports_of(path)]


def test_pure_modules_know_neither_clock_nor_thread_nor_random_source() -> None:
    pure = ["tlv", "apdu", "atr", "ccid", "ccid_descriptor", "ccid_slot", "piv", "proof", "identity"]
    pure += ["emulated/applet", "emulated/reader", "emulated/profile"]
    pure += ["emulated/function", "emulated/usb_descriptors"]
    impure = {"time", "threading", "os", "random", "secrets", "socket", "asyncio", "usb"}
    assert not {name: found for name in pure if (found := imports_of(ROOT / f"{name}.py") & impure)}
