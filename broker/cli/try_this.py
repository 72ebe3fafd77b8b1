"""What to try next: the page that `usher serve --emulate` prints once it serves. Its commands work as they stand."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Protocol

import broker


class Endpoints(Protocol):
    """Where the broker serves."""

    @property
    def clients(self) -> str: ...
    @property
    def http(self) -> str: ...


def try_this(endpoints: Endpoints, data_dir: Path, default_data_dir: Path) -> str:
    """The page. What the other terminal may lack, the command itself or the data directory, is set up first."""
    set_up = _path_line()
    if data_dir.absolute() != default_data_dir.absolute():
        set_up += f"  export USHER_DATA_DIR={shlex.quote(str(data_dir.absolute()))}\n"
    return f"""
Usher serves EMULATED keys: alpha, bravo and charlie give 15 platform, 10 crm and 5 telephony seats.
They are for trying, no right of use. Clients: {endpoints.clients}. Ctrl-C stops the broker. In another terminal:

{set_up}  usher seats                           how many seats there are, used and free
  usher open platform crm               a login: holds a seat of each until Ctrl-C
  usher emulate unplug alpha            pulls a key; `usher seats` shows what is left
  usher emulate plug alpha              puts it back
  usher sessions                        who holds what
  usher events                          what happens, as it happens

  curl -s http://{endpoints.http}/metrics | grep usher_seats
  curl -s http://{endpoints.http}/v1/sessions:open -H 'content-type: application/json' -d \\
    "{{\\"request_id\\": \\"$(head -c16 /dev/urandom | base64)\\", \\"holder\\": {{\\"user\\": \\"anna\\", \\"host\\": \\"pc-1\\"}}, \\
      \\"products\\": [{{\\"product\\": \\"platform\\"}}]}}"

  {shlex.quote(sys.executable)} - <<'PYTHON'
  from broker import client
  with client.open("{endpoints.clients}", user="anna", products=["platform"]) as session:
      print(session.leases)
  PYTHON
"""


def _path_line() -> str:
    """Makes `usher` and our Python known to a shell that does not know them."""
    if shutil.which("usher"):
        return ""
    scripts = Path(sys.executable).parent
    if (scripts / "usher").exists():
        return f'  export PATH={shlex.quote(str(scripts))}:"$PATH"\n'
    # A checkout that is not installed: it runs from where it stands.
    checkout = shlex.quote(str(Path(broker.__file__).parents[1]))
    return f"  export PYTHONPATH={checkout}\n  alias usher={shlex.quote(f'{sys.executable} -m broker.cli.main')}\n"
