"""Every scripted fault at every event of a key's opening and proof, with the keyring on top: seats never exceed what is proven.

The driver speaks to the emulated token by packets under a virtual clock; the engine decides over what comes of it. After the fault
the key comes back by itself, as the table says, without a restart.
"""

from collections.abc import Iterator

import pytest

from broker.keyring import KeyringSettings, KeyState
from broker.keyring.core import WorkKind
from broker.keyring.engine import KeyringEngine
from broker.keyring.keyring import fault_of
from broker.keyring.memory import VolatileMemory
from broker.keyring.records import FaultKind as Meaning
from broker.keyring.records import Identity
from hwkey import NONCE_SIZE, HwkeyError, KeyPort, SecurityKey, UsbAddress
from hwkey.emulated import EmulatedToken, Fault, FaultKind
from hwkey.emulated.faults import LAYER_OF, FaultLayer
from tests.hwkey.packet_link import PacketLink

from .conftest import NOW_UNIX_S, RecordingSink
from .lives import content_of
from .test_capacity import a_licence

SCRIPTED = [kind for kind, layer in LAYER_OF.items() if layer is not FaultLayer.OPEN]
SETTINGS = KeyringSettings(broker_id="b")
SEATS = 10


class Desk:
    """One key on one port, its worker, and what is true of it."""

    def __init__(self, token: EmulatedToken) -> None:
        self.token = token
        self.sink = RecordingSink()
        self.engine = KeyringEngine(
            settings=SETTINGS, sink=self.sink, memory=VolatileMemory(), jitter=lambda least, most: least
        )
        self.now_ns = 0
        self.generation = 0
        self.opened: SecurityKey | None = None
        self.proven_until_ns = 0
        self.meanings: list[Meaning] = []
        self.engine.begin(content_of([a_licence("L-1", token.thumbprint, SEATS, is_test=True)]), ["usb"], 0, NOW_UNIX_S)
        self.plug()

    def plug(self) -> None:
        self.generation += 1
        self.opened = None
        address = UsbAddress(1, (1,), 2, self.generation)
        port = KeyPort("usb:1:0", address, 0, 1, 1, "Key", "", True)
        self.engine.unscanned.discard("usb")
        (attachment,) = self.engine.core.scanned("usb", [port], self.now_ns)
        self.number = attachment.number
        self.follow()

    def follow(self) -> None:
        """The engine goes on, and may never count more than the test knows to be proven."""
        self.engine.follow(self.now_ns, NOW_UNIX_S)
        if self.sink.seats("platform"):
            assert self.sink.seats("platform") == SEATS
            assert self.now_ns < self.proven_until_ns, "seats without a good proof"

    def step(self) -> None:
        """What the worker does next, when it is due."""
        work = self.engine.core.work(self.number)
        assert work.kind in (WorkKind.OPEN, WorkKind.PROVE)
        self.now_ns = max(self.now_ns, work.due_ns)
        self.follow()
        work = self.engine.core.work(self.number)
        try:
            if work.kind is WorkKind.OPEN:
                self.opened = None
                self.opened = PacketLink(self.token, transfer_count_max=2_000).open_key()
                identity = Identity(self.opened.thumbprint, "Key", "1-1", True)
                self.engine.core.opened(self.number, identity, self.now_ns)
            elif self.opened is not None:
                self.opened.prove(nonce=bytes(NONCE_SIZE), broker_id="b", purpose="presence")
                self.proven_until_ns = self.now_ns + SETTINGS.proof_ttl_ns
                self.engine.core.proved(self.number, self.now_ns, self.now_ns)
        except HwkeyError as error:
            self.fail(error)
        self.follow()

    def fail(self, error: HwkeyError) -> None:
        fault = fault_of(error)
        self.meanings.append(fault.kind)
        if fault.kind is not Meaning.UNANSWERED:
            self.proven_until_ns = 0  # it answered falsely, or is not there
        self.engine.core.failed(self.number, fault, self.now_ns)
        if fault.kind is Meaning.GONE:
            self.follow()
            self.plug()

    @property
    def state(self) -> KeyState:
        record = self.engine.core.find(self.token.thumbprint)
        assert record is not None
        return record.state

    def settle(self, steps_max: int) -> int:
        """Goes on until the key is present; how many steps it took."""
        for count in range(steps_max):
            if self.state is KeyState.PRESENT and self.sink.seats("platform") == SEATS:
                return count
            self.step()
        pytest.fail(f"{self.state} after {steps_max} steps")


def places(token: EmulatedToken) -> Iterator[Fault]:
    """Each fault at each event of an opening and a proof."""
    before = {layer: token.faults.event_count(layer) for layer in FaultLayer}
    Desk(token).settle(4)
    for kind in SCRIPTED:
        layer = LAYER_OF[kind]
        for skip_count in range(token.faults.event_count(layer) - before[layer]):
            yield Fault(kind, skip_count=skip_count, delay_ms=1_500)


@pytest.mark.parametrize("profile", ["yubikey5-like", "t0-reader"])
def test_a_fault_at_any_event_of_the_first_proof_ends_in_a_present_key(profile: str) -> None:
    token = EmulatedToken.create(serial="walked", profile=profile)
    for fault in list(places(token)):
        token.faults.append(fault)
        desk = Desk(token)
        steps = desk.settle(8)
        assert len(desk.meanings) <= 1, (fault, desk.meanings)
        assert steps <= 2 + 2 * len(desk.meanings), fault
        token.faults.clear()


@pytest.mark.parametrize("profile", ["yubikey5-like", "t0-reader"])
def test_a_fault_at_any_event_of_a_later_proof_costs_seats_only_if_it_was_false_or_the_key_is_gone(profile: str) -> None:
    token = EmulatedToken.create(serial="walked", profile=profile)
    for fault in list(places(token)):
        desk = Desk(token)
        desk.settle(4)
        token.faults.append(fault)
        desk.step()
        is_unanswered_at_most = set(desk.meanings) <= {Meaning.UNANSWERED}
        assert bool(desk.sink.seats("platform")) is is_unanswered_at_most, fault
        if fault.kind in (FaultKind.BAD_SIGNATURE, FaultKind.OTHER_KEY_SIGNATURE):
            assert desk.meanings == [Meaning.WRONG], fault
        token.faults.clear()
        desk.settle(6)
        assert desk.sink.causes() == ([] if is_unanswered_at_most else desk.sink.causes()[:1]), fault
