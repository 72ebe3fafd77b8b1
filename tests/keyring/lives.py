"""The keyring's engine under a clock of the test's own, over many runs of a broker: what a key is good for in each second.

Licences are values, keys are names; a plugged key answers at once. A run ends in good order or dies; between two runs time passes for
nobody, and the clock may begin anew, as after a boot. *Served* time is that in which a broker ran.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.keyring import CapacitySink, KeyringEngine, KeyringSettings, VolatileMemory
from broker.keyring.core import WorkKind
from broker.keyring.memory import Memory
from broker.keyring.records import Identity, KeyRecord
from broker.licence import FolderContent, Licence
from broker.licence.document import Authorship, Examination
from hwkey import KeyPort, UsbAddress

from .conftest import NOW_UNIX_S, RecordingSink

S = 1_000_000_000
SETTINGS = KeyringSettings(broker_id="b")


def content_of(licences: Sequence[Licence]) -> FolderContent:
    """A folder with these licences in it, each authentic."""
    return FolderContent(
        tuple((one.file, Examination(one, Authorship(one.vendor, one.licence_id, one.digest))) for one in licences)
    )


@dataclass
class Lives:
    """One broker's directory: `memory` stays, `engine` and `sink` are those of the run."""

    licences: list[Licence]
    settings: KeyringSettings = SETTINGS
    memory: Memory = field(default_factory=VolatileMemory)
    now_ns: int = 0
    wall_unix_s: int = NOW_UNIX_S
    plugged: dict[str, str] = field(default_factory=dict)  # by place, the key
    silent: set[str] = field(default_factory=set)  # keys that do not answer, and do not fail either
    sink_of: Callable[[], CapacitySink] | None = None  # another ledger than the recording one
    generations: dict[str, int] = field(default_factory=dict)
    numbers: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A run begins; its keys are scanned."""
        self.sink = RecordingSink()
        self.engine = KeyringEngine(
            settings=self.settings,
            sink=self.sink_of() if self.sink_of else self.sink,
            memory=self.memory,
            jitter=lambda least, most: (least + most) // 2,
        )
        content = content_of(self.licences)
        self.engine.begin(content, ["usb"], self.now_ns, self.wall_unix_s)
        self.numbers = {}
        self.step(0)

    def restart(self, *, is_clean: bool, boot_ns: int | None = None) -> None:
        """The run ends, and the next begins."""
        if is_clean:
            self.engine.end(self.now_ns)
        self.now_ns = self.now_ns if boot_ns is None else boot_ns
        self.begin()

    def step(self, wait_ns: int) -> None:
        """Time passes, the bus is scanned, and who is due does its work."""
        self.now_ns += wait_ns
        self.wall_unix_s += wait_ns // S
        self.engine.unscanned.discard("usb")
        ports = [self._port(place) for place in self.plugged]
        for attachment in self.engine.core.scanned("usb", ports, self.now_ns):
            self.numbers[attachment.number] = self.plugged[str(attachment.port.address.port_numbers[0])]
        self.engine.follow(self.now_ns, self.wall_unix_s)
        for number, name in list(self.numbers.items()):
            self._work(number, name)
        self.engine.follow(self.now_ns, self.wall_unix_s)

    def wait(self, wait_s: int) -> None:
        """That many seconds, one by one."""
        for _ in range(wait_s):
            self.step(S)

    def plug(self, name: str, place: str = "1") -> None:
        """A key comes; it is found at the next step."""
        self.generations[place] = self.generations.get(place, 0) + 1
        self.plugged[place] = name

    def unplug(self, place: str = "1") -> None:
        """A key goes."""
        self.plugged.pop(place, None)

    def _port(self, place: str) -> KeyPort:
        address = UsbAddress(1, (int(place),), 2, self.generations[place])
        return KeyPort(f"usb:{place}:0", address, 0, 1, 1, "Key", "", False)

    def _work(self, number: int, name: str) -> None:
        for _ in range(2):
            work = self.engine.core.work(number)
            if work.kind is WorkKind.STOP:
                del self.numbers[number]
                return
            if work.kind is WorkKind.IDLE or work.due_ns > self.now_ns or name in self.silent:
                return
            if work.kind is WorkKind.OPEN:
                self.engine.core.opened(number, Identity(name, "Key", "1-1", False), self.now_ns)
            else:
                self.engine.core.proved(number, self.now_ns, self.now_ns)
            self.engine.follow(self.now_ns, self.wall_unix_s)

    def record(self, name: str) -> KeyRecord:
        """What the run knows of a key."""
        record = self.engine.core.find(name)
        assert record is not None
        return record

    def grace_ns(self, name: str) -> int:
        """How much longer the ledger lets charges stand on the lost sources of a key, at most."""
        ends = [
            one.grace_until_ns - self.now_ns
            for one in self.engine.book.given.values()
            if one.licence.thumbprint == name and one.is_lost
        ]
        return max(ends, default=0)
