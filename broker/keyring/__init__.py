"""The keyring: security keys found, proven and matched to licences; their seats given to the ledger and taken away.

`keyring.py` runs it; `engine.py` is all that it decides, of which `core.py` is the logic of keys, `states.py` their table,
`capacity.py` the decisions, `grace.py` the budget of a lost key. `sink.py` is what it needs of the ledger, `memory.py` where it
keeps what a restart must not change, `remembered.py` what that says, `keeping.py` when it is written. `views.py` is what it shows.
"""

from broker.keyring.engine import KeyringEngine
from broker.keyring.grace import GraceBudget
from broker.keyring.keyring import Keyring, Surroundings
from broker.keyring.memory import Memory, MemoryFull, VolatileMemory
from broker.keyring.settings import KeyringSettings
from broker.keyring.sink import CapacitySink
from broker.keyring.states import KeyState
from broker.keyring.views import KeyringViews, KeyView, LicenceState, LicenceView

__all__ = [
    "CapacitySink",
    "GraceBudget",
    "KeyState",
    "KeyView",
    "Keyring",
    "KeyringEngine",
    "KeyringSettings",
    "KeyringViews",
    "LicenceState",
    "LicenceView",
    "Memory",
    "MemoryFull",
    "Surroundings",
    "VolatileMemory",
]
