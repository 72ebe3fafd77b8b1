"""The licences that keys carry on themselves, of each key that has proven itself.

A certificate is no proof: anybody can copy one. So what is on a key is looked at only once that very connection has signed
a challenge, and until then an impostor can neither add to what the true key carries nor take it away. What a key carried is
kept when it is pulled, so that its licences are shown as waiting for their key and its loss has the right cause.
Bounded: of more keys than `count_max` the one that proved itself longest ago is forgotten. Called under the keyring's lock.
"""

from broker.licence import Carried, TrustFile, examine_carried


class CarriedLicences:
    """By thumbprint, the one that proved itself last at the end."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._certificates: dict[str, bytes] = {}
        self._carried: dict[str, Carried] = {}

    def proven(self, thumbprint: str, certificate_der: bytes, trust: TrustFile) -> bool:
        """A key has proven itself, with such a certificate; whether anything is other than before."""
        before = self._certificates.pop(thumbprint, None)
        if before == certificate_der:
            self._certificates[thumbprint] = certificate_der
            return False
        known = self._carried.pop(thumbprint, None)
        carried = examine_carried(certificate_der, thumbprint, trust)
        if carried.is_empty:
            return known is not None
        self._certificates[thumbprint], self._carried[thumbprint] = certificate_der, carried
        if len(self._certificates) > self._count_max:
            oldest = next(iter(self._certificates))
            del self._certificates[oldest], self._carried[oldest]
        return True

    def trust_changed(self, trust: TrustFile) -> None:
        """Looks at everything again."""
        self._carried = {
            thumbprint: examine_carried(certificate_der, thumbprint, trust)
            for thumbprint, certificate_der in self._certificates.items()
        }

    def all(self) -> tuple[Carried, ...]:
        """What every key carries."""
        return tuple(self._carried.values())
