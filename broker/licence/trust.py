"""The trust file: which vendors may license which products on this broker.

A JWK Set (RFC 7517) of Ed25519 public keys (RFC 8037). Each entry also says whose it is and what it may license:

    {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "...", "kid": "...", "use": "sig", "alg": "EdDSA",
               "usher_vendor": "Acme", "usher_products": ["platform", "crm"], "usher_env": "test"}]}

Product ids are listed one by one: an entry that could license everything would make any vendor's key as good as every
other's. `usher_env: test` marks a test vendor: it may sign only licences with `env: test`, and an entry without it never
accepts one. A file with anything wrong in it is refused as a whole, every fault named, since a half-read trust file
is not what its author meant. A private key in the file is a fault. `load` reads files; the rest is pure.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.licence import bounds
from broker.licence.compact import LICENCE_ALGORITHM
from broker.licence.errors import TrustFileError
from broker.licence.refusal import quoted
from broker.licence.strict import decode_base64url, display_field, parse_object, text_field

_Value = TypeVar("_Value")

_FIXED: Final = (("kty", "OKP"), ("crv", "Ed25519"))
_FIXED_IF_PRESENT: Final = (("use", "sig"), ("alg", LICENCE_ALGORITHM), ("usher_env", "test"))
_USHER: Final = frozenset({"usher_vendor", "usher_products", "usher_env"})


@dataclass(frozen=True, slots=True)
class TrustEntry:
    """One vendor key and its scope. `public_raw` is the key's 32 bytes; `source` the file that it stands in."""

    kid: str
    vendor: str
    products: frozenset[str]
    is_test: bool
    public_raw: bytes
    source: str = ""

    @property
    def public(self) -> Ed25519PublicKey:
        """The key to verify with."""
        return Ed25519PublicKey.from_public_bytes(self.public_raw)


@dataclass(frozen=True, slots=True)
class TrustFile:
    """The trusted vendor keys, of one file or of several read as one."""

    entries: tuple[TrustEntry, ...] = ()

    def entry(self, kid: str) -> TrustEntry | None:
        """The entry with a key id."""
        return next((entry for entry in self.entries if entry.kid == kid), None)

    @property
    def has_test_vendor(self) -> bool:
        """Whether EMULATED licences could be accepted at all (`semantics.md` 33)."""
        return any(entry.is_test for entry in self.entries)

    @staticmethod
    def load(*paths: Path) -> "TrustFile":
        """Reads trust files as one; raises `TrustFileError` with every fault of all of them."""
        entries: list[TrustEntry] = []
        faults: list[str] = []
        for path in paths:
            found, wrong = _parse(_bytes(path), str(path))
            entries += found
            faults += wrong
        return _combined(entries, faults)

    @staticmethod
    def parse(data: bytes, source: str = "trust file") -> "TrustFile":
        """The trust file in `data`; raises `TrustFileError` with every fault. `source` names it in sentences."""
        return _combined(*_parse(data, source))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(bounds.TRUST_FILE_SIZE_MAX + 1)
    except OSError as error:
        raise TrustFileError((f"{path}: cannot be read: {error.strerror}",)) from error


def _combined(entries: list[TrustEntry], faults: list[str]) -> TrustFile:
    """One trust file of many entries, if no fault was found and no two entries speak for one key."""
    faults = faults + list(_duplicates(entries))
    if faults:
        raise TrustFileError(tuple(faults))
    return TrustFile(tuple(entries))


def _duplicates(entries: Iterable[TrustEntry]) -> Iterable[str]:
    kids: dict[str, TrustEntry] = {}
    raws: dict[bytes, TrustEntry] = {}
    for entry in entries:
        if entry.kid in kids:
            yield f"{entry.source}: kid {entry.kid} stands there twice (also in {kids[entry.kid].source}); remove one"
        elif entry.public_raw in raws:
            # Two scopes for one key would make the narrower one void.
            yield (
                f"{entry.source}: the entries {raws[entry.public_raw].kid} and {entry.kid} are one vendor key under two"
                " names; remove one"
            )
        kids.setdefault(entry.kid, entry)
        raws.setdefault(entry.public_raw, entry)


def _parse(data: bytes, source: str) -> tuple[list[TrustEntry], list[str]]:
    if len(data) > bounds.TRUST_FILE_SIZE_MAX:
        return [], [f"{source}: is larger than {bounds.TRUST_FILE_SIZE_MAX // 1024} KiB"]
    try:
        keys = parse_object(data).get("keys")
    except ValueError as error:
        return [], [f"{source}: {error}"]
    if not isinstance(keys, list) or len(keys) > bounds.TRUST_ENTRY_COUNT_MAX:
        return [], [
            f'{source}: is no JWK Set: "keys" is not a list of at most {bounds.TRUST_ENTRY_COUNT_MAX} entries'
        ]
    entries: list[TrustEntry] = []
    faults: list[str] = []
    for index, members in enumerate(keys):
        try:
            entries.append(_entry(members, source))
        except _WrongEntry as wrong:
            faults.append(f"{source}: keys[{index}]{_named(members)}: {wrong}")
    return entries, faults


class _WrongEntry(Exception):
    """One fault of one entry, as half a sentence."""


def _named(members: object) -> str:
    kid = members.get("kid") if isinstance(members, dict) else None
    return f" (kid {quoted(kid)})" if isinstance(kid, str) else ""


def _entry(members: object, source: str) -> TrustEntry:
    if not isinstance(members, dict):
        raise _WrongEntry("is not an object")
    if "d" in members:
        raise _WrongEntry("holds a PRIVATE key (d): take it out, and treat that vendor key as compromised")
    _check_fixed(members)
    return TrustEntry(
        kid=_field(members, "kid", lambda: text_field(members, "kid", bounds.KID_PATTERN)),
        vendor=_field(
            members, "usher_vendor", lambda: display_field(members, "usher_vendor", bounds.VENDOR_LENGTH_MAX)
        ),
        products=_field(members, "usher_products", lambda: _products(members["usher_products"])),
        is_test="usher_env" in members,
        public_raw=_field(members, "x", lambda: _public_raw(members["x"])),
        source=source,
    )


def _check_fixed(members: Mapping[str, Any]) -> None:
    for name, value in _FIXED:
        if members.get(name) != value:
            raise _WrongEntry(
                f'"{name}" is {quoted(members.get(name))}; only Ed25519 keys ({name} "{value}") are accepted'
            )
    for name, value in _FIXED_IF_PRESENT:
        if members.get(name, value) != value:
            raise _WrongEntry(f'"{name}" is {quoted(members[name])} and can only be "{value}"')
    for name in members:
        # RFC 7517 lets others add members; those in our name are ours, and a misspelt scope must not be skipped.
        if name.startswith("usher_") and name not in _USHER:
            raise _WrongEntry(f"{quoted(name)} is unknown; known are {', '.join(sorted(_USHER))}")


def _field(members: Mapping[str, Any], name: str, read: Callable[[], _Value]) -> _Value:
    if name not in members:
        raise _WrongEntry(f'"{name}" is missing')
    try:
        return read()
    except ValueError as error:
        raise _WrongEntry(f'"{name}" ({quoted(members[name])}) {error}') from None


def _products(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= bounds.TRUST_PRODUCT_COUNT_MAX:
        raise ValueError(f"is not a list of 1 to {bounds.TRUST_PRODUCT_COUNT_MAX} product ids")
    for product in value:
        if not isinstance(product, str) or not bounds.PRODUCT_PATTERN.fullmatch(product):
            raise ValueError(
                f"names {quoted(product)}, which is no product id ({bounds.PRODUCT_PATTERN.pattern})"
            )
    return frozenset(value)


def _public_raw(value: object) -> bytes:
    raw = decode_base64url(value) if isinstance(value, str) else b""
    if len(raw) != 32:
        raise ValueError("is not the base64url of 32 bytes")
    return raw
