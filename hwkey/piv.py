"""The PIV commands that a seat needs: select, read the 9E certificate, sign with 9E.

Source: NIST SP 800-73-4 parts 1 and 2, SP 800-78-4 (algorithm identifiers). Slot 9E is card authentication: no
PIN, no touch. Pure over an `apdu.Exchange`; belongs to the thread of its card.

The full application id comes first: Nitrokey 3 does not answer to the five-byte prefix, YubiKey does to both.
"""

from __future__ import annotations

import zlib

from hwkey import tlv
from hwkey.apdu import (
    EXTENDED_EXPECTED_SIZE_MAX,
    SHORT_EXPECTED_SIZE_MAX,
    SW_NOT_FOUND,
    SW_OK,
    Command,
    Exchange,
)
from hwkey.errors import NotAPivKey, ProtocolError
from hwkey.identity import RSA_MODULUS_SIZE, SigningAlgorithm

AID = bytes.fromhex("A000000308000010000100")
AID_PREFIX = AID[:5]
INS_SELECT, INS_GET_DATA, INS_GENERAL_AUTHENTICATE = 0xA4, 0xCB, 0x87
SLOT_CARD_AUTHENTICATION = 0x9E
OBJECT_CARD_AUTHENTICATION_CERTIFICATE = 0x5FC101

TAG_OBJECT_ID, TAG_OBJECT = 0x5C, 0x53
TAG_CERTIFICATE, TAG_CERTIFICATE_INFO = 0x70, 0x71
TAG_TEMPLATE, TAG_CHALLENGE, TAG_RESPONSE = 0x7C, 0x81, 0x82
GZIP_BIT = 0x01
CERTIFICATE_SIZE_MAX = 16_384  # five times what the largest token can hold; bounds decompression

ALGORITHM_IDS: dict[SigningAlgorithm, int] = {
    SigningAlgorithm.RSA2048: 0x07,
    SigningAlgorithm.P256: 0x11,
    SigningAlgorithm.P384: 0x14,
    SigningAlgorithm.ED25519: 0xE0,
}
# Curve order sizes: PIV takes a hash value of exactly this size, shorter ones are filled with leading zeros.
HASH_SIZES = {SigningAlgorithm.P256: 32, SigningAlgorithm.P384: 48}
# DigestInfo of SHA-256 up to the hash value, RFC 8017 section 9.2 note 1.
DIGEST_INFO_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


class PivApplication:
    """A selected PIV applet."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def select(self) -> None:
        """Select the applet by its full id, then by the prefix; raises NotAPivKey."""
        for aid in (AID, AID_PREFIX):
            command = Command(0x00, INS_SELECT, 0x04, 0x00, aid, SHORT_EXPECTED_SIZE_MAX)
            if self._exchange.exchange(command).status_word == SW_OK:
                return
        raise NotAPivKey("it has no PIV applet")

    def read_certificate(self) -> bytes:
        """The DER certificate of slot 9E; raises NotAPivKey when there is none, else HwkeyError."""
        object_id = tlv.encode(TAG_OBJECT_ID, OBJECT_CARD_AUTHENTICATION_CERTIFICATE.to_bytes(3, "big"))
        command = Command(0x00, INS_GET_DATA, 0x3F, 0xFF, object_id, EXTENDED_EXPECTED_SIZE_MAX)
        response = self._exchange.exchange(command)
        if response.status_word == SW_NOT_FOUND:
            raise NotAPivKey("its slot 9E holds no certificate")
        return decode_certificate_object(response.expect_ok(INS_GET_DATA))

    def sign(self, algorithm: SigningAlgorithm, digest: bytes) -> bytes:
        """Sign a SHA-256 digest with 9E, in the form that `proof` verifies; raises HwkeyError."""
        template = tlv.encode(TAG_RESPONSE, b"") + tlv.encode(TAG_CHALLENGE, challenge_for(algorithm, digest))
        command = Command(
            0x00,
            INS_GENERAL_AUTHENTICATE,
            ALGORITHM_IDS[algorithm],
            SLOT_CARD_AUTHENTICATION,
            tlv.encode(TAG_TEMPLATE, template),
            EXTENDED_EXPECTED_SIZE_MAX,
        )
        return decode_signature(self._exchange.exchange(command).expect_ok(INS_GENERAL_AUTHENTICATE))


def challenge_for(algorithm: SigningAlgorithm, digest: bytes) -> bytes:
    """What GENERAL AUTHENTICATE is given for a SHA-256 digest."""
    if algorithm is SigningAlgorithm.RSA2048:
        info = DIGEST_INFO_SHA256 + digest
        return b"\x00\x01" + b"\xff" * (RSA_MODULUS_SIZE - 3 - len(info)) + b"\x00" + info
    return digest.rjust(HASH_SIZES.get(algorithm, len(digest)), b"\x00")


def decode_certificate_object(data: bytes) -> bytes:
    """The DER certificate in a PIV data object `53 {70 certificate, 71 info, FE}`; raises HwkeyError."""
    items = {item.tag: item.value for item in tlv.decode(tlv.value_of(data, TAG_OBJECT))}
    certificate = items.get(TAG_CERTIFICATE, b"")
    if not certificate:
        raise NotAPivKey("its slot 9E holds no certificate")
    info = items.get(TAG_CERTIFICATE_INFO, b"\x00")
    return _decompress(certificate) if info[:1] and info[0] & GZIP_BIT else certificate


def decode_signature(data: bytes) -> bytes:
    """The signature in a dynamic authentication template `7C {82 signature}`; raises ProtocolError."""
    signature = tlv.value_of(tlv.value_of(data, TAG_TEMPLATE), TAG_RESPONSE)
    if not signature:
        raise ProtocolError("piv", "an empty signature", data=data)
    return signature


def _decompress(data: bytes) -> bytes:
    """gzip (RFC 1952), bounded; raises ProtocolError."""
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        certificate = inflater.decompress(data, CERTIFICATE_SIZE_MAX)
    except zlib.error as error:
        raise ProtocolError("piv", f"a compressed certificate: {error}", data=data) from error
    if not inflater.eof:
        raise ProtocolError("piv", f"a compressed certificate that is cut short or over {CERTIFICATE_SIZE_MAX} bytes")
    return certificate
