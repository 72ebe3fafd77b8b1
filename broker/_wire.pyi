"""The wire codec's face for tests: bytes of Sessions messages in, plain values out, and answers of the ledger as bytes.

The data plane uses the compiled functions below it and never this. No state; any thread. `message` is the bare name of a request,
"OpenRequest". Facts of a command are what the ledger is given: see ext/wire/intake.pxi.
"""

from collections.abc import Iterable

from broker.model.answers import Answer

MESSAGE_NUMBERS: dict[str, int]
"""Name -> number of each request message."""

DecodedCommand = tuple[
    int,
    int,
    tuple[bytes, ...],
    tuple[tuple[str, bool], ...],
    bytes,
    bytes,
    int,
    int,
    bytes,
    int,
    bytes,
    bool | None,
]
"""verb, InvalidField, texts (user, host, app, label, instance id, identity; of an Open), products with is_optional,
session_id and request_id (zeros if the message has none), change_version, ttl_ns, the salt's hash (zeros: no salt),
wait_limit_ns, client_nonce, active."""

class Refused(Exception):
    """A status other than OK: google.rpc.Code, the sentence, the google.rpc.Status with its ErrorInfo."""

    code: int
    message: str
    details: bytes
    def __init__(self, code: int, message: str, details: bytes) -> None: ...

def decode(
    message: str, data: bytes, *, secret: bytes = ..., identity: bytes = b"", is_unasked: bool = False
) -> DecodedCommand:
    """One request as a command, its salt under this secret of 16 bytes. Refused if it does not come to the ledger.

    With is_unasked: an Open that the ledger is not asked for is checked whole, and the first required product is given.
    """

def decode_keep_alive(data: bytes) -> tuple[list[DecodedCommand], list[bytes]]:
    """The renewals of a KeepAliveRequest, and the session ids to forget. Refused if anything in it is wrong."""

def encode(
    message: str,
    answer: Answer,
    *,
    renew_grace_ns: int = 0,
    fence: int = 0,
    offer_hold_ns: int = 0,
) -> bytes:
    """The response to a request of that message, or Refused.

    fence: of the request's session id, 0 if not genuine.
    """

def encode_keep_alive(results: Iterable[tuple[bytes, int, Answer]], *, renew_grace_ns: int = 0) -> list[bytes]:
    """The KeepAliveResponses with these results in their order: (session_id, fence, answer), RENEWED or NOT_FOUND."""

def encode_notice(session_id: bytes, fence: int, answer: Answer) -> bytes:
    """A KeepAliveResponse with one notice: the session's end if the answer has an end reason, else its leases."""

def is_text(data: bytes) -> bool:
    """Whether the bytes are UTF-8."""

def decode_cost_ns(message: str, data: bytes, times: int) -> float:
    """Mean nanoseconds of one decode."""

def encode_cost_ns(message: str, answer: Answer, times: int) -> float:
    """Mean nanoseconds of one encode."""
