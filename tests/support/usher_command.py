"""The `usher` command inside the test's own process: fast, with its output and exit code.

For what ends by itself; what must be interrupted runs as a process (`spawned_usher`).
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker.cli.main import main
from tests.support.broker_process import process_environment


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command printed and ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def usher(*arguments: object, environment: Mapping[str, str] | None = None) -> CommandResult:
    """Runs `usher ARGUMENTS` with none of the caller's USHER_ variables but those given."""
    out, err = io.StringIO(), io.StringIO()
    with _environment(environment or {}), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(one) for one in arguments])
    return CommandResult(int(code), out.getvalue(), err.getvalue())


@contextlib.contextmanager
def spawned_usher(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """`usher ARGUMENTS` as a process of its own, killed at the end of the block if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "broker.cli.main", *(str(one) for one in arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=process_environment(),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("USHER_")]:
        del os.environ[name]
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
