"""The keyring: security keys found, proven and matched to licences; their seats given to the ledger and taken away.

`keyring.py` runs it; `core.py` is its logic, `states.py` its table, `capacity.py` its decisions, `grace.py` the budget of
a lost key, `sink.py` what it needs of the ledger, `views.py` what it shows.
"""

from broker.keyring.grace import GraceBudget
from broker.keyring.keyring import Keyring, Surroundings
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
    "KeyringSettings",
    "KeyringViews",
    "LicenceState",
    "LicenceView",
    "Surroundings",
]
