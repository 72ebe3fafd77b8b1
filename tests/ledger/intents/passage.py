"""What happens by the passing of time, and in crowds: advances, storms of denials, silence, reading and draining."""

from __future__ import annotations

from tests.ledger.episodes import SECOND_NS
from tests.ledger.intents.clients import ClientIntents
from tests.ledger.intents.desk import Desk, nobody
from tests.ledger.intents.keys import KeyIntents
from tests.model.records import Holder

STORM_COUNT = (102, 103)
"""Just more than the 100 of a second that are told singly; and two of them, so that their count is not taken for one."""
CROWD_COUNT = 46
DRAIN_SIZE_MIN = 688
"""Of one SESSION_OPENED with texts of full length: a smaller drain is refused."""


class PassageIntents:
    """Bursts put all their operations at once."""

    def __init__(self, desk: Desk, clients: ClientIntents, keys: KeyIntents) -> None:
        self._desk = desk
        self._rng = desk.rng
        self._clients = clients
        self._keys = keys

    def advance(self) -> None:
        self._desk.put("advance", {})

    def drain(self) -> None:
        whole, part = self._desk.episode.drain_size_max, DRAIN_SIZE_MIN + self._rng.randrange(700)
        self._desk.put("drain", {"size_max": self._rng.choice((whole, whole, part))})

    def read(self) -> None:
        self._desk.put("read", {})

    def drain_broker(self) -> None:
        """For a few operations nobody new is let in."""
        self._desk.put("set_admitting", {"is_admitting": False})
        self._desk.plans.extend(["again", "open", "late", "renew", "reopen", "acquire", "readmit"])

    def readmit(self) -> None:
        self._desk.put("set_admitting", {"is_admitting": True})

    def denial_storm(self) -> None:
        """Twice more denials of one product in a second than are told singly; the rest told first by one, then by advance."""
        holder = self._desk.holder()._replace(instance_id=b"")
        _, denied = self._desk.split_products(nobody(holder))
        name = self._rng.choice(denied)
        for _ in range(2):
            self._desk.now_ns = self._desk.raw_ns + SECOND_NS
            self._denials_of_a_second(name, holder)
            self._desk.now_ns += SECOND_NS
        self.advance()

    def _denials_of_a_second(self, name: str, holder: Holder) -> None:
        asked = self._clients.open_arguments(holder, [(name, False)])
        for _ in range(self._rng.randint(*STORM_COUNT)):
            self._desk.put("open", asked | {"request_id": self._desk.request_id()})

    def quiet(self) -> None:
        """Nobody comes for so long that all denials are forgotten."""
        self._desk.now_ns += self._desk.episode.settings.arguments["denial_window_ns"] + SECOND_NS
        for _ in range(1 + self._desk.model.memory.denial_count // 256):
            self.advance()

    def crowd(self) -> None:
        """Many come with large bundles and fall silent together: more is due at once than one advance does."""
        desk = self._desk
        for source in range(len(desk.model.capacity.pools)):
            self._keys.prove_one(source, source, desk.episode.seats_max, desk.episode.proof_ns_max)
        for _ in range(CROWD_COUNT):
            required, *others = [name for name, _ in desk.products(least=12)]
            items = [(required, False), *((name, True) for name in others)]
            holder = desk.holder()._replace(instance_id=b"")
            desk.put("open", self._clients.open_arguments(holder, items))
        for _ in range(2):
            desk.now_ns += 10 * SECOND_NS
            for _ in range(3):
                self.advance()
