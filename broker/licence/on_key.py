"""Licences on the security key itself: an extension of the certificate in its slot 9E.

    id       2.25.274529742073522780003301955679162813273   (an arc of a UUID, X.667: nobody has to give it out)
    value    SEQUENCE SIZE (1..16) OF IA5String             in DER; each string a licence document, as in a `.jwt` file

The extension is not critical: tools that do not know it pass it by. Who signed the certificate is not asked, because it
adds nothing: each licence in it is signed by its vendor and names the key that it is for. One that names another key is
refused here (it would count from the folder), so that a borrowed token cannot bring documents of other keys with it.
Tokens have little room: see `bounds.CERTIFICATE_SIZE_MAX`. Pure; any thread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cryptography import x509

from broker.licence import bounds
from broker.licence.document import Examination, Licence, examine
from broker.licence.refusal import Refusal, RefusalReason
from broker.licence.trust import TrustFile

EXTENSION_ID: Final = x509.ObjectIdentifier("2.25.274529742073522780003301955679162813273")

_SEQUENCE, _IA5_STRING = 0x30, 0x16
_SHOWN_LENGTH = 11


@dataclass(frozen=True, slots=True)
class Carried:
    """What a certificate carries: each document by the name to show it under, examined; or why none can be read."""

    examined: tuple[tuple[str, Examination], ...] = ()
    refusal: Refusal | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the certificate is one of a key without licences."""
        return not self.examined and self.refusal is None


def examine_carried(certificate_der: bytes, thumbprint: str, trust: TrustFile) -> Carried:
    """The licences on the key with a thumbprint. Never raises, whatever the certificate."""
    source = f"on key {thumbprint[:_SHOWN_LENGTH]}"
    try:
        documents = carried_documents(certificate_der)
    except ValueError as error:
        sentence = f"the licence extension of the certificate on key {thumbprint} {error}; ask the vendor to write it anew"
        return Carried(refusal=Refusal(RefusalReason.MALFORMED, sentence, source))
    return Carried(
        tuple(
            (f"{source}, {number}", _own(examine(document, trust), thumbprint))
            for number, document in enumerate(documents, 1)
        )
    )


def _own(examination: Examination, thumbprint: str) -> Examination:
    """The same, unless the licence is for another key: then nothing that it says counts, not even its id."""
    verdict = examination.verdict
    if not isinstance(verdict, Licence):
        return examination
    if verdict.thumbprint == thumbprint:
        return replace(examination, verdict=replace(verdict, is_carried=True))
    return Examination(refused_on_key(verdict), None)


def refused_on_key(licence: Licence) -> Refusal:
    """The refusal of a licence that lies on a key other than its own."""
    sentence = (
        f"licence {licence.licence_id} lies on this key but is for the key {licence.thumbprint}; put it on that key, or into"
        " the licence folder"
    )
    return Refusal(RefusalReason.WRONG_KEY, sentence, "", licence.licence_id, licence.vendor, licence.product)


def carried_documents(certificate_der: bytes) -> tuple[bytes, ...]:
    """The documents in a DER certificate, unjudged; none without the extension. ValueError: "is not ..." if it is broken."""
    try:
        extensions = x509.load_der_x509_certificate(certificate_der).extensions
        value = extensions.get_extension_for_oid(EXTENSION_ID).value
    except x509.ExtensionNotFound:
        return ()
    except (ValueError, TypeError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"cannot be read ({type(error).__name__})") from None
    assert isinstance(value, x509.UnrecognizedExtension), "a library that knows our extension"
    return _decode(value.value)


def licence_extension(documents: Sequence[str]) -> x509.UnrecognizedExtension:
    """The extension that carries documents, 1 to 16 of them."""
    assert 1 <= len(documents) <= bounds.CARRIED_COUNT_MAX
    strings = b"".join(_element(_IA5_STRING, document.strip().encode("ascii")) for document in documents)
    return x509.UnrecognizedExtension(EXTENSION_ID, _element(_SEQUENCE, strings))


def _decode(data: bytes) -> tuple[bytes, ...]:
    sequence, rest = _take(data, _SEQUENCE)
    if rest:
        raise ValueError("has bytes behind its end")
    documents: list[bytes] = []
    while sequence:
        if len(documents) == bounds.CARRIED_COUNT_MAX:
            raise ValueError(f"holds more than {bounds.CARRIED_COUNT_MAX} licences")
        document, sequence = _take(sequence, _IA5_STRING)
        documents.append(document)
    if not documents:
        raise ValueError("holds no licence")
    return tuple(documents)


def _take(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The value of the first element and what follows it; DER of lengths below 64 KiB (X.690 section 10.1)."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("is not a sequence of strings")
    size, offset = data[1], 2
    if size > 0x80:
        count = size - 0x80
        size, offset = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
        # Only the shortest form, so that one value has one spelling.
        if count > 2 or size < (0x80 if count == 1 else 0x100):
            raise ValueError("is not in DER")
    elif size == 0x80:
        raise ValueError("is not in DER")
    if len(data) < offset + size:
        raise ValueError("is cut short")
    return data[offset : offset + size], data[offset + size :]


def _element(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        length = bytes([size])
    else:
        count = (size.bit_length() + 7) // 8
        length = bytes([0x80 | count]) + size.to_bytes(count, "big")
    return bytes([tag]) + length + value


def all_examined(carried: Iterable[Carried]) -> list[tuple[str, Examination]]:
    """The documents of many keys."""
    return [one for each in carried for one in each.examined]
