"""What an author of licences or of a trust file did wrong, as errors: these are for the person at the keyboard.

A document that somebody else wrote never raises these: it is refused, as a value (`refusal.py`).
"""


class LicenceError(Exception):
    """Root of what this package raises. The text is for people."""


class TrustFileError(LicenceError):
    """A trust file that cannot be used; `faults` names each with file and entry."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class VendorError(LicenceError):
    """A vendor directory or an order to issue that cannot be served; `path` is the file at fault, if one is."""

    def __init__(self, sentence: str, *, path: str = "") -> None:
        super().__init__(sentence)
        self.path = path
