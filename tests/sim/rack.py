"""The security keys themselves: which are plugged in where, how they answer, and who makes trouble with them. They outlive every broker.

A token answers honestly, late, not at all, or falsely; a clone is a second one with the private key of another. `ports` is what a scan of the
bus finds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from hwkey import KeyPort, UsbAddress
from tests.sim.agenda import MS

PROMPT_NS = 20 * MS


class Manner(Enum):
    """How a token answers."""

    HONEST = auto()
    MUTE = auto()
    FALSE = auto()


@dataclass(slots=True, eq=False)
class Token:
    """One device at one place. `generation` counts its plug-ins."""

    thumbprint: str
    place: int
    is_clone: bool = False
    is_plugged: bool = True
    generation: int = 1
    latency_ns: int = PROMPT_NS
    manner: Manner = Manner.HONEST
    port: KeyPort = field(init=False)
    """As a scan sees it now."""

    def __post_init__(self) -> None:
        self.name_port()

    def name_port(self) -> None:
        """After each plug-in."""
        address = UsbAddress(1, (self.place,), 2, self.generation)
        self.port = KeyPort(f"usb:{self.place}:0", address, 0, 1, 1, "Key", "", True)

    @property
    def is_well(self) -> bool:
        """Plugged in, and answers at once and truly; or a clone that is away."""
        if self.is_clone:
            return not self.is_plugged
        return self.is_plugged and self.manner is Manner.HONEST and self.latency_ns == PROMPT_NS


class Rack:
    """All tokens of a world: one for each key, and one clone of each that is not plugged in at first."""

    def __init__(self, thumbprints: tuple[str, ...]) -> None:
        self.tokens = [Token(thumbprint, place) for place, thumbprint in enumerate(thumbprints, 1)]
        self.clones = [
            Token(thumbprint, place + 100, is_clone=True, is_plugged=False) for place, thumbprint in enumerate(thumbprints, 1)
        ]

    def ports(self) -> list[KeyPort]:
        """What is plugged in."""
        return [token.port for token in (*self.tokens, *self.clones) if token.is_plugged]

    def at(self, port: KeyPort) -> Token | None:
        """The token of a port, if it has been there since."""
        for token in (*self.tokens, *self.clones):
            if token.is_plugged and token.port is port:
                return token
        return None

    def is_well(self, thumbprint: str) -> bool:
        """Whether a key is there alone and honest."""
        return all(token.is_well for token in (*self.tokens, *self.clones) if token.thumbprint == thumbprint)

    def pull(self, token: Token) -> None:
        """Out of its port."""
        token.is_plugged = False

    def plug(self, token: Token) -> None:
        """Into its port, again."""
        if not token.is_plugged:
            token.is_plugged = True
            token.generation += 1
            token.name_port()

    def heal(self) -> None:
        """Everything as it should be."""
        for token in self.tokens:
            token.manner, token.latency_ns = Manner.HONEST, PROMPT_NS
            self.plug(token)
        for token in self.clones:
            self.pull(token)
