"""The client where nothing of the broker is installed: no compiled module, no server dependency, only grpc and protobuf."""

from __future__ import annotations

import subprocess
import sys

from tests.support.broker_process import RunningBroker, process_environment

GUARD = """
import sys
from importlib.abc import MetaPathFinder

OURS = ("broker", "broker.client", "broker.v1")
THEIRS = ("grpc", "google", "typing_extensions")

class OnlyWhatAClientInstallHas(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        is_ours = name in OURS or name.startswith(("broker.client.", "broker.v1."))
        if is_ours or top in THEIRS or top in sys.stdlib_module_names:
            return None
        raise ImportError(f"not in a client install: {name}")

sys.meta_path.insert(0, OnlyWhatAClientInstallHas())
"""


def run_guarded(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", GUARD + script, *arguments],
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guard_itself_blocks_what_a_client_install_lacks() -> None:
    script = """
for name in ("broker._ledger", "broker.model", "broker.verbs", "broker.service", "hwkey", "starlette", "click", "jwt", "usb"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} could be imported")
"""
    assert run_guarded(script) == ""


def test_the_client_works_where_nothing_of_the_broker_is_installed(usher: RunningBroker) -> None:
    script = """
import asyncio
from broker import client

with client.open(sys.argv[1], user="anna", products=["platform"]) as session:
    print(*(lease.product for lease in session.renew()))

async def main():
    async with client.open_async(sys.argv[1], user="anna", products=["crm"]) as session:
        print(*(lease.product for lease in await session.renew()))

asyncio.run(main())
loaded = {name.partition(".")[0] for name in sys.modules if name.startswith(("broker", "hwkey"))}
assert loaded == {"broker"}, loaded
"""
    assert run_guarded(script, usher.clients) == "platform\ncrm\n"
