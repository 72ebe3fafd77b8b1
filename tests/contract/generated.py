"""Stubs made from proto/ by grpc_tools into a fresh directory, as any user of the API would make them.

`directory` is the plain result, for other processes (PYTHONPATH). In this process the package `broker` is ours already, so a copy
is imported under the name `contract_stubs`; only its import lines differ.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"
FILES = ("broker/v1/types.proto", "broker/v1/sessions.proto", "broker/v1/admin.proto")
_COPY = "contract_stubs"


@dataclass(frozen=True, slots=True)
class Api:
    """The generated modules."""

    directory: Path
    types: Any
    sessions: Any
    sessions_grpc: Any
    admin: Any
    admin_grpc: Any


def generate(directory: Path) -> Api:
    """Runs protoc and imports what it made."""
    plain = directory / "plain"
    plain.mkdir(parents=True)
    includes = [f"-I{PROTO}", f"-I{files('grpc_tools') / '_proto'}"]
    outputs = [f"--python_out={plain}", f"--grpc_python_out={plain}"]
    assert protoc.main(["protoc", *includes, *outputs, *FILES]) == 0
    _copy(plain / "broker" / "v1", directory / "renamed" / _COPY)
    sys.path.insert(0, str(directory / "renamed"))
    names = ("types_pb2", "sessions_pb2", "sessions_pb2_grpc", "admin_pb2", "admin_pb2_grpc")
    return Api(plain, *(importlib.import_module(f"{_COPY}.{name}") for name in names))


def _copy(source: Path, destination: Path) -> None:
    destination.mkdir(parents=True)
    (destination / "__init__.py").write_text('"""Generated."""\n')
    for path in source.glob("*.py"):
        text = re.sub(
            r"^from broker\.v1 import", f"from {_COPY} import", path.read_text(), flags=re.MULTILINE
        )
        (destination / path.name).write_text(text)
