"""The PIV applet of an emulated token: command APDU in, response APDU out.

Knows what the driver's `piv` asks (SELECT, GET DATA of the 9E certificate and the discovery object, GENERAL
AUTHENTICATE with 9E) and the transport habits around it: command chaining, 61xx and GET RESPONSE, short and
extended lengths. Everything else gets the status word that a real card gives. Source: NIST SP 800-73-4 part 2.

Pure: no clock, no I/O; ECDSA signatures are randomised by the library. One thread at a time, the device's.
Like a real 9E it signs any hash it is given.
"""

from __future__ import annotations

from typing import Protocol

from hwkey import tlv
from hwkey.apdu import (
    CHAINING_BIT,
    INS_GET_RESPONSE,
    SHORT_EXPECTED_SIZE_MAX,
    SW_NOT_FOUND,
    SW_OK,
    Command,
    Response,
    decode_command,
)
from hwkey.atr import PROTOCOL_T0
from hwkey.emulated.faults import FaultKind, FaultLayer, FaultScript
from hwkey.emulated.profile import Profile
from hwkey.errors import ProtocolError
from hwkey.piv import (
    AID,
    AID_PREFIX,
    INS_GENERAL_AUTHENTICATE,
    INS_GET_DATA,
    INS_SELECT,
    OBJECT_CARD_AUTHENTICATION_CERTIFICATE,
    SLOT_CARD_AUTHENTICATION,
    TAG_CERTIFICATE,
    TAG_CERTIFICATE_INFO,
    TAG_CHALLENGE,
    TAG_OBJECT,
    TAG_OBJECT_ID,
    TAG_RESPONSE,
    TAG_TEMPLATE,
)

SW_WRONG_LENGTH = 0x6700
SW_CONDITIONS_NOT_SATISFIED = 0x6985
SW_WRONG_DATA = 0x6A80
SW_NO_SUCH_APPLICATION = 0x6A82
SW_WRONG_P1_P2 = 0x6A86
SW_NO_SUCH_INSTRUCTION = 0x6D00

TAG_APPLICATION_TEMPLATE, TAG_APPLICATION_ID, TAG_DISCOVERY = 0x61, 0x4F, 0x7E
CHAINED_DATA_SIZE_MAX = 4_096


class CardSigner(Protocol):
    """The private key behind slot 9E, as the card's chip uses it."""

    @property
    def algorithm_id(self) -> int:
        """PIV algorithm identifier."""

    def sign_raw(self, challenge: bytes) -> bytes:
        """The card's signature over a challenge as it is; ValueError when its size is wrong."""

    def sign_raw_by_another(self, challenge: bytes) -> bytes:
        """The same by a private key that is not this token's."""


class PivApplet:
    """The card: state is the selected applet, a chain under way, and what is left of an answer."""

    def __init__(self, profile: Profile, certificate_der: bytes, signer: CardSigner, faults: FaultScript) -> None:
        self._profile = profile
        self._certificate_der = certificate_der
        self._signer = signer
        self._faults = faults
        self.reset()

    def reset(self) -> None:
        """Power-up: nothing selected, nothing pending."""
        self._is_selected = False
        self._chained = b""
        self._remainder = b""

    def exchange(self, data: bytes) -> bytes:
        """One command APDU in, one response APDU out; never raises for what the other side sends."""
        try:
            command = decode_command(data)
        except ProtocolError:
            return Response(b"", SW_WRONG_LENGTH).encode()
        return self._dispatch(command).encode()

    def _dispatch(self, command: Command) -> Response:
        if command.ins == INS_GET_RESPONSE:
            return self._hand_out(command.expected_size_max)
        self._remainder = b""
        self._chained += command.data
        if len(self._chained) > CHAINED_DATA_SIZE_MAX:
            self._chained = b""
            return Response(b"", SW_WRONG_LENGTH)
        if command.cla & CHAINING_BIT:
            return Response(b"", SW_OK)
        whole, self._chained = self._chained, b""
        return self._run(command, whole)

    def _run(self, command: Command, data: bytes) -> Response:
        if command.ins == INS_SELECT:
            return self._select(command, data)
        if not self._is_selected:
            return Response(b"", SW_CONDITIONS_NOT_SATISFIED)
        try:
            if command.ins == INS_GET_DATA:
                return self._get_data(command, data)
            if command.ins == INS_GENERAL_AUTHENTICATE:
                return self._authenticate(command, data)
        except (ProtocolError, ValueError):
            return Response(b"", SW_WRONG_DATA)
        return Response(b"", SW_NO_SUCH_INSTRUCTION)

    def _select(self, command: Command, aid: bytes) -> Response:
        if command.p1 != 0x04:
            return Response(b"", SW_WRONG_P1_P2)
        # Real cards take the id without its version bytes; only some take the bare prefix.
        shortest = len(AID_PREFIX) if self._profile.has_prefix_select else len(AID) - 2
        if len(aid) < shortest or not AID.startswith(aid):
            return Response(b"", SW_NO_SUCH_APPLICATION)
        self._is_selected = True
        template = tlv.encode(TAG_APPLICATION_TEMPLATE, tlv.encode(TAG_APPLICATION_ID, AID[5:]))
        return self._answer(template, 0 if self._profile.has_gathered_select else command.expected_size_max)

    def _get_data(self, command: Command, data: bytes) -> Response:
        wanted = int.from_bytes(tlv.value_of(data, TAG_OBJECT_ID), "big")
        if wanted == TAG_DISCOVERY:
            return self._answer(tlv.encode(TAG_DISCOVERY, tlv.encode(TAG_APPLICATION_ID, AID)), command.expected_size_max)
        if wanted != OBJECT_CARD_AUTHENTICATION_CERTIFICATE or not self._certificate_der:
            return Response(b"", SW_NOT_FOUND)
        items = ((TAG_CERTIFICATE, self._certificate_der), (TAG_CERTIFICATE_INFO, b"\x00"), (0xFE, b""))
        body = b"".join(tlv.encode(tag, value) for tag, value in items)
        return self._answer(tlv.encode(TAG_OBJECT, body), command.expected_size_max)

    def _authenticate(self, command: Command, data: bytes) -> Response:
        if command.p1 != self._signer.algorithm_id or command.p2 != SLOT_CARD_AUTHENTICATION:
            return Response(b"", SW_WRONG_P1_P2)
        challenge = tlv.value_of(tlv.value_of(data, TAG_TEMPLATE), TAG_CHALLENGE)
        signature = tlv.encode(TAG_RESPONSE, self._sign(challenge))
        return self._answer(tlv.encode(TAG_TEMPLATE, signature), command.expected_size_max)

    def _sign(self, challenge: bytes) -> bytes:
        fault = self._faults.take(FaultLayer.SIGNATURE)
        if fault is not None and fault.kind is FaultKind.OTHER_KEY_SIGNATURE:
            return self._signer.sign_raw_by_another(challenge)
        signature = self._signer.sign_raw(challenge)
        if fault is not None:
            return signature[:-1] + bytes([signature[-1] ^ 1])
        return signature

    def _answer(self, data: bytes, expected_size_max: int) -> Response:
        """What fits the asked size, and 61xx for the rest."""
        self._remainder = data
        if not expected_size_max:
            return Response(b"", self._status_of_remainder())
        return self._hand_out(expected_size_max)

    def _hand_out(self, size_max: int) -> Response:
        if self._profile.card_protocol == PROTOCOL_T0 and 0 < len(self._remainder) < size_max:
            # T=0 transfers exactly what is asked for, so the card names the size that there is.
            return Response(b"", 0x6C00 | len(self._remainder))
        part, self._remainder = self._remainder[:size_max], self._remainder[size_max:]
        if not part:
            return Response(b"", SW_CONDITIONS_NOT_SATISFIED)
        return Response(part, self._status_of_remainder())

    def _status_of_remainder(self) -> int:
        size = len(self._remainder)
        return 0x6100 | (size if size < SHORT_EXPECTED_SIZE_MAX else 0) if size else SW_OK
