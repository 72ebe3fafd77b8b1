"""A security key in use: an opened card, the PIV applet on it, and the identity it has shown.

Opening powers the card, selects PIV and reads the 9E certificate; the public key in it is the identity until
`prove` has shown that its private key is here. One worker thread a key: opens it, proves it, closes it; the lock
only guards against a `close` from another thread, which waits for a proof under way.

An error leaves the key in doubt. The next `prove` first resets the card and selects PIV again, so that a
fault costs one attempt; whether and when to try again is the keyring's to decide.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hwkey.apdu import Card, exchange_over
from hwkey.errors import CardFailure, HwkeyError, KeyClosed, NotAnswering, ProtocolError, Stalled, located
from hwkey.identity import PublicKey, SigningAlgorithm, algorithm_of, public_key_of, thumbprint_of
from hwkey.piv import PivApplication
from hwkey.proof import Challenge, Proof, verify_signature

_DOUBTS = (NotAnswering, Stalled, ProtocolError, CardFailure)


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """What to show a person; identity is never taken from it. Empty strings where nothing is known."""

    product: str
    serial: str
    usb_path: str
    is_emulated: bool

    def __str__(self) -> str:
        serial = f" {self.serial}" if self.serial else ""
        return f"{self.product or 'security key'}{serial} at {self.usb_path}"


class SecurityKey:
    """An opened security key. Made by `KeyBus.open`; owned by one worker thread; closed by its owner."""

    def __init__(self, card: Card, certificate_der: bytes, description: KeyDescription) -> None:
        self._card = card
        self._piv = PivApplication(exchange_over(card))
        self._lock = threading.Lock()
        self._is_in_doubt = False
        self._is_closed = False
        self.certificate_der: bytes = certificate_der
        self.description: KeyDescription = description
        self.public_key: PublicKey = public_key_of(certificate_der)
        self.algorithm: SigningAlgorithm = algorithm_of(self.public_key)
        self.thumbprint: str = thumbprint_of(self.public_key)

    @classmethod
    def open(cls, card: Card, description: KeyDescription) -> SecurityKey:
        """Select PIV on a powered card and read who it is; takes the card over, and closes it on any error.

        A card may leave its first command unanswered, or answer an older one, so a doubt costs one reset and one more
        attempt. Raises NotAPivKey, Unsupported or any DeviceError.
        """
        try:
            with located(description.usb_path):
                try:
                    certificate_der = _identify(card)
                except _DOUBTS:
                    card.reset()
                    certificate_der = _identify(card)
                return cls(card, certificate_der, description)
        except BaseException:
            card.close()
            raise

    def prove(self, *, nonce: bytes, broker_id: str, purpose: str) -> Proof:
        """Have the key sign a fresh challenge, check the signature, and return both.

        `nonce` is 32 random bytes used once; `broker_id` and `purpose` are 1 to 255 bytes of UTF-8. Raises
        ValueError for others, KeyClosed, ProofRejected, or any DeviceError or HostError. `semantics.md` 30.
        """
        challenge = Challenge(purpose=purpose, broker_id=broker_id, nonce=nonce, thumbprint=self.thumbprint)
        with self._exclusive(), located(self.description.usb_path):
            self._recover_if_in_doubt()
            with self._doubting():
                signature = self._piv.sign(self.algorithm, challenge.digest)
                return verify_signature(challenge, signature, self.public_key)

    def close(self) -> None:
        """Power off and let go of the device; may be called twice, never raises."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._card.close()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "in doubt" if self._is_in_doubt else "open"
        return f"<SecurityKey {self.thumbprint} {self.description} {state}>"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock:
            if self._is_closed:
                raise KeyClosed(where=self.description.usb_path)
            yield

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        try:
            yield
        except HwkeyError:
            self._is_in_doubt = True
            raise

    def _recover_if_in_doubt(self) -> None:
        if self._is_in_doubt:
            self._card.reset()
            self._piv = PivApplication(exchange_over(self._card))
            self._piv.select()
            self._is_in_doubt = False


def _identify(card: Card) -> bytes:
    """The certificate of slot 9E, in DER."""
    piv = PivApplication(exchange_over(card))
    piv.select()
    return piv.read_certificate()
