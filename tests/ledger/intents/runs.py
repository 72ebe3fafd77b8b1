"""What happens to the process and its journal: restarts, a disk that cannot be written, learning, words of the control plane."""

from __future__ import annotations

from tests.ledger.episodes import SECOND_NS
from tests.ledger.intents.desk import Desk

NOTE_NAMES = (b"key/a", b"key/b", b"licence/c")


class RunIntents:
    """None of them for a lossy ring: what it has forgotten brings nobody back."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rng = desk.rng

    def restart(self) -> None:
        """The process is gone and comes back, perhaps on a computer that was started anew; then the keys prove themselves."""
        desk, rng = self._desk, self._rng
        if desk.episode.settings.arguments.get("is_lossy"):
            return
        raw_ns = desk.raw_ns
        desk.now_ns = rng.choice((raw_ns, raw_ns + rng.randrange(100 * SECOND_NS), rng.randrange(10 * SECOND_NS)))
        share = rng.choice((0.0, 0.0, rng.random(), 1.0))
        desk.put("restart", {"wall_ns": rng.randrange(2**60), "compacted_share": share})
        steps = ["renew", "renew", "again", "again_inside", "reopen", "open", "set_starting", "advance", "close", "release"]
        rng.shuffle(steps)
        desk.plans.extend([*steps[:5], "prove_all", *steps[5:]])

    def read_only(self) -> None:
        """For a few operations the journal cannot be written."""
        self._desk.put("set_writable", {"is_writable": False})
        self._desk.plans.extend(["again", "open", "acquire", "renew", "release", "close", "open", "acquire", "writable"])

    def writable(self) -> None:
        self._desk.put("set_writable", {"is_writable": True})

    def learn(self) -> None:
        """Who holds what is not known for a while."""
        until_ns = self._desk.raw_ns + self._rng.randrange(2 * SECOND_NS)
        self._desk.put("set_learning", {"until_ns": until_ns})
        self._desk.plans.extend(["open", "open_partly", "acquire", "acquire_partly", "again", "reopen", "open_partly", "acquire_partly", "open_partly"])

    def write_down(self) -> None:
        rng = self._rng
        if rng.random() < 0.45:
            self._desk.put("mark_wall", {"wall_ns": rng.randrange(2**60)})
        else:
            value = rng.choice((b"", b"v", b"v" * 90))
            self._desk.put("note", {"name": rng.choice(NOTE_NAMES), "value": value})
