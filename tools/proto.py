"""The generator of broker/v1: Python and its type stubs from proto/, by the pinned tools.

    python tools/proto.py [FOLDER]

FOLDER is the root to write under, the checkout's own if it is not named; the drift test names another. The output is
checked in, so that neither a user nor a package build needs protoc.
"""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent

PACKAGE = Path("broker/v1")


def protos() -> list[str]:
    """The .proto files, named from proto/."""
    return sorted(path.relative_to(ROOT / "proto").as_posix() for path in (ROOT / "proto" / PACKAGE).glob("*.proto"))


def plugin(name: str) -> str:
    """A protoc plugin of this environment, not one that happens to be on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise SystemExit(f"{name} is missing: make setup")
    return f"--plugin={name}={found}"


def generate(folder: Path) -> int:
    """Writes all of broker/v1 but its __init__ under `folder`; protoc's exit status."""
    (folder / PACKAGE).mkdir(parents=True, exist_ok=True)
    arguments = [
        "protoc",
        f"-I{ROOT / 'proto'}",
        f"-I{files('grpc_tools') / '_proto'}",
        plugin("protoc-gen-mypy"),
        plugin("protoc-gen-mypy_grpc"),
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        f"--mypy_out={folder}",
        f"--mypy_grpc_out={folder}",
        *protos(),
    ]
    return int(protoc.main(arguments))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.exit(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
