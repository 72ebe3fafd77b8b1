"""What to try next: the page that `usher serve --emulate` prints once it serves. Its commands work as they stand."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import broker
from broker.app.emulated_keys import EmulatedKeySettings


class Endpoints(Protocol):
    """Where the broker serves."""

    @property
    def clients(self) -> str: ...
    @property
    def http(self) -> str: ...


def try_this(
    endpoints: Endpoints, fleet: Sequence[EmulatedKeySettings], data_dir: Path, default_data_dir: Path
) -> str:
    """The page. What the other terminal may lack, the command itself or the data directory, is set up first."""
    set_up = _path_line()
    if data_dir.absolute() != default_data_dir.absolute():
        set_up += f"  export USHER_DATA_DIR={shlex.quote(str(data_dir.absolute()))}\n"
    products = _seats(fleet)
    some = " ".join(list(products)[:2]) or "PRODUCT"
    first = fleet[0].name if fleet else "NAME"
    return f"""
Usher serves EMULATED keys: {_described(fleet)}.
They are for trying, no right of use. Clients: {endpoints.clients}. Ctrl-C stops the broker. In another terminal:

{set_up}  usher seats                           how many seats there are, used and free
  {f"usher open {some}":<37} a login: holds a seat of each until Ctrl-C
  {f"usher emulate unplug {first}":<37} pulls a key; `usher seats` shows what is left
  {f"usher emulate plug {first}":<37} puts it back
  usher sessions                        who holds what
  usher events                          what happens, as it happens

  curl -s http://{endpoints.http}/metrics | grep usher_seats
  curl -s http://{endpoints.http}/v1/sessions:open -H 'content-type: application/json' -d \\
    "{{\\"request_id\\": \\"$(head -c16 /dev/urandom | base64)\\", \\"holder\\": {{\\"user\\": \\"anna\\", \\"host\\": \\"pc-1\\"}}, \\
      \\"products\\": [{{\\"product\\": \\"{some.split()[0]}\\"}}]}}"

  {shlex.quote(sys.executable)} -c 'from broker import client
with client.open("{endpoints.clients}", user="anna", products=["{some.split()[0]}"]) as session:
    print(session.leases)'
"""


def _described(fleet: Sequence[EmulatedKeySettings]) -> str:
    """alpha, bravo and charlie give 15 platform, 10 crm and 5 telephony seats"""
    if not fleet:
        return "none yet"
    seats = _listed([f"{count} {product}" for product, count in _seats(fleet).items()]) or "no"
    return f"{_listed([one.name for one in fleet])} give{'s' if len(fleet) == 1 else ''} {seats} seats"


def _seats(fleet: Sequence[EmulatedKeySettings]) -> dict[str, int]:
    """Seats by product, in the order of the fleet."""
    seats: dict[str, int] = {}
    for licence in (licence for one in fleet for licence in one.licences):
        seats[licence.product] = seats.get(licence.product, 0) + licence.seats
    return seats


def _listed(words: list[str]) -> str:
    return " and ".join(", ".join(words).rsplit(", ", 1)) if len(words) > 1 else "".join(words)


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
