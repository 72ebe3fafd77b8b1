"""What counts as a licence, and the reason for which every other document is refused."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.licence import Licence, Refusal, RefusalReason, Stacking, TrustFile, Vendor, create_vendor, verify
from broker.licence.document import read_licence
from broker.licence.strict import encode_base64url
from broker.licence.terms import LicenceTerms
from broker.model.terms import PoolTerms
from broker.model.words import LicenceModel, Sharing

from .conftest import NOW_UNIX_S, THUMBPRINT, plain_claims

Make = Callable[..., str]


def refused(verdict: Licence | Refusal) -> Refusal:
    assert isinstance(verdict, Refusal), verdict
    return verdict


def accepted(verdict: Licence | Refusal) -> Licence:
    assert isinstance(verdict, Licence), verdict
    return verdict


def test_an_issued_licence_reads_back_as_it_was_ordered(issue: Make, trust: TrustFile) -> None:
    terms = LicenceTerms(
        pool=PoolTerms(
            sharing=Sharing.USER, share_max=4, weight=2, linger_ns=30_000_000_000, min_hold_ns=60_000_000_000
        ),
        stacking=Stacking.ONE_PER_HOST,
    )
    document = issue(terms=terms, expires_unix_s=NOW_UNIX_S + 100, customer="ООО Ромашка")
    licence = accepted(verify(document, trust, NOW_UNIX_S))
    assert (licence.licence_id, licence.vendor, licence.product, licence.seats) == (
        "L-1",
        "Acme",
        "platform",
        10,
    )
    assert (licence.thumbprint, licence.terms, licence.customer) == (THUMBPRINT, terms, "ООО Ромашка")
    assert (licence.not_before_unix_s, licence.expires_unix_s) == (NOW_UNIX_S, NOW_UNIX_S + 100)
    assert not licence.is_test
    assert licence.terms.in_words() == (
        "concurrent, per user, up to 4 sessions a seat, 2 seats each, lingers 30 s, held at least 60 s,"
        " only the largest key of a host counts"
    )


def test_a_line_end_behind_the_document_is_no_fault(issue: Make, trust: TrustFile) -> None:
    document = issue()
    assert accepted(verify(document.encode() + b"\r\n", trust, NOW_UNIX_S)) == verify(
        document, trust, NOW_UNIX_S
    )


@pytest.mark.parametrize(
    ("now_unix_s", "reason"),
    [
        (NOW_UNIX_S - 1, RefusalReason.NOT_YET_VALID),
        (NOW_UNIX_S, None),
        (NOW_UNIX_S + 99, None),
        (NOW_UNIX_S + 100, RefusalReason.EXPIRED),
    ],
)
def test_not_before_is_included_and_expiry_is_excluded(
    issue: Make, trust: TrustFile, now_unix_s: int, reason: RefusalReason | None
) -> None:
    verdict = verify(issue(expires_unix_s=NOW_UNIX_S + 100), trust, now_unix_s)
    assert (verdict.reason if isinstance(verdict, Refusal) else None) is reason


def test_a_licence_without_expiry_is_perpetual(issue: Make, trust: TrustFile) -> None:
    assert accepted(verify(issue(), trust, 200_000_000_000)).expires_unix_s is None


# --- the envelope -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"jwk": {"kty": "OKP"}}, RefusalReason.HEADER_JWK),
        ({"jku": "https://example.org/keys"}, RefusalReason.HEADER_JKU),
        ({"x5u": "https://example.org/cert"}, RefusalReason.HEADER_X5U),
        ({"x5c": ["MII"]}, RefusalReason.HEADER_X5C),
        ({"cty": "json"}, RefusalReason.HEADER_UNKNOWN),
        ({"typ": "JWT"}, RefusalReason.WRONG_TYPE),
        ({"kid": "someone-else"}, RefusalReason.KID_UNKNOWN),
        ({"kid": ""}, RefusalReason.KID_MISSING),
    ],
)
def test_a_genuine_signature_does_not_excuse_a_wrong_header(
    forge: Make, trust: TrustFile, header: dict[str, Any], reason: RefusalReason
) -> None:
    assert refused(verify(forge(plain_claims(), header), trust, NOW_UNIX_S)).reason is reason


def test_unknown_critical_extensions_are_refused(vendor: Vendor, trust: TrustFile) -> None:
    header = {"typ": "usher-licence+jwt", "alg": "EdDSA", "kid": vendor.entry.kid, "crit": ["exp"], "exp": 1}
    assert (
        refused(verify(_signed(header, plain_claims(), vendor.private), trust, 0)).reason
        is RefusalReason.HEADER_CRIT
    )


def test_a_missing_kid_is_refused(forge: Make, trust: TrustFile) -> None:
    assert refused(verify(forge(plain_claims(), drop="kid"), trust, 0)).reason is RefusalReason.KID_MISSING


def test_a_missing_type_is_refused(forge: Make, trust: TrustFile) -> None:
    assert refused(verify(forge(plain_claims(), drop="typ"), trust, 0)).reason is RefusalReason.WRONG_TYPE


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "HS256", "RS256", "ES256", "Ed448", "", None, 7, ["EdDSA"]]
)
def test_every_algorithm_but_eddsa_is_refused(vendor: Vendor, trust: TrustFile, algorithm: object) -> None:
    header = {"typ": "usher-licence+jwt", "alg": algorithm, "kid": vendor.entry.kid}
    verdict = verify(_signed(header, plain_claims(), vendor.private), trust, NOW_UNIX_S)
    assert refused(verdict).reason is RefusalReason.WRONG_ALGORITHM


def test_alg_none_without_a_signature_is_refused(vendor: Vendor, trust: TrustFile) -> None:
    header = {"typ": "usher-licence+jwt", "alg": "none", "kid": vendor.entry.kid}
    signed = _signed(header, plain_claims(), vendor.private)
    unsigned = signed[: signed.rindex(".") + 1]
    assert refused(verify(unsigned, trust, NOW_UNIX_S)).reason is RefusalReason.WRONG_ALGORITHM


def test_the_public_key_used_as_an_hmac_secret_is_refused(vendor: Vendor, trust: TrustFile) -> None:
    document = jwt.encode(
        plain_claims(),
        vendor.entry.public_raw,
        algorithm="HS256",
        headers={"typ": "usher-licence+jwt", "kid": vendor.entry.kid},
    )
    assert refused(verify(document, trust, NOW_UNIX_S)).reason is RefusalReason.WRONG_ALGORITHM


def test_an_ed448_signature_under_a_trusted_kid_is_refused(vendor: Vendor, trust: TrustFile) -> None:
    header = {"typ": "usher-licence+jwt", "alg": "EdDSA", "kid": vendor.entry.kid}
    verdict = verify(_signed(header, plain_claims(), Ed448PrivateKey.generate()), trust, NOW_UNIX_S)
    assert refused(verdict).reason is RefusalReason.WRONG_SIGNATURE


def test_a_foreign_key_under_a_trusted_kid_is_refused(vendor: Vendor, trust: TrustFile) -> None:
    header = {"typ": "usher-licence+jwt", "alg": "EdDSA", "kid": vendor.entry.kid}
    verdict = verify(_signed(header, plain_claims(), Ed25519PrivateKey.generate()), trust, NOW_UNIX_S)
    assert refused(verdict).reason is RefusalReason.WRONG_SIGNATURE


def test_every_changed_character_of_a_licence_is_noticed(issue: Make, trust: TrustFile) -> None:
    document = issue()
    for index, old in enumerate(document):
        for new in ("A", "B", "."):
            if new != old:
                assert isinstance(
                    verify(document[:index] + new + document[index + 1 :], trust, NOW_UNIX_S), Refusal
                ), index


def test_more_seats_in_the_payload_break_the_signature(issue: Make, trust: TrustFile) -> None:
    header, _, signature = issue().split(".")
    richer = encode_base64url(json.dumps(plain_claims(seats=10_000)).encode())
    assert (
        refused(verify(f"{header}.{richer}.{signature}", trust, NOW_UNIX_S)).reason
        is RefusalReason.WRONG_SIGNATURE
    )


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"   \n",
        b"hello",
        b"a.b",
        b"a.b.c.d",
        b"..",
        b"\xff\xfe.\x00.x",
        "é.é.é",
        b"e30.e30.",
        b"!!!.e30.e30",
        b"W10.e30.e30",
    ],
)
def test_garbage_is_refused_as_malformed(trust: TrustFile, document: bytes | str) -> None:
    verdict = refused(verify(document, trust, 0))
    # `e30.e30.` is an empty header in good form: it fails later, for its type.
    assert verdict.reason in (RefusalReason.MALFORMED, RefusalReason.WRONG_TYPE)
    assert verdict.licence_id == ""


def test_base64_that_two_readers_could_read_differently_is_refused(issue: Make, trust: TrustFile) -> None:
    header, payload, signature = issue().split(".")
    # 64 bytes are 86 characters; the low four bits of the last one are free to vary in a lax decoder.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = signature[:-1] + alphabet[alphabet.index(signature[-1]) + 1]
    assert base64.urlsafe_b64decode(twin + "==") == base64.urlsafe_b64decode(signature + "==")
    for spelling in (twin, signature + "==", "\t" + signature, signature[:40] + "\n" + signature[40:]):
        verdict = verify(f"{header}.{payload}.{spelling}", trust, NOW_UNIX_S)
        assert refused(verdict).reason is RefusalReason.MALFORMED


def test_a_document_over_16_kib_is_refused_before_it_is_read(forge: Make, trust: TrustFile) -> None:
    document = forge(plain_claims(sub="x" * 20_000))
    assert refused(verify(document, trust, NOW_UNIX_S)).reason is RefusalReason.TOO_LARGE


def test_a_claim_that_stands_twice_is_refused(forge: Make, trust: TrustFile) -> None:
    text = json.dumps(plain_claims())[:-1] + ', "seats": 1000}'
    assert refused(verify(forge(text.encode()), trust, NOW_UNIX_S)).reason is RefusalReason.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"1", b"null", b"[" * 10_000, b'{"seats": 1.5}', b'{"seats": NaN}', b"\xff", b"{" + b"9" * 5_000],
)
def test_a_signed_payload_that_is_no_object_is_refused(forge: Make, trust: TrustFile, payload: bytes) -> None:
    assert refused(verify(forge(payload), trust, NOW_UNIX_S)).reason is RefusalReason.MALFORMED


# --- the claims -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iss", "jti", "iat", "nbf", "product", "seats", "cnf"])
def test_each_required_claim_is_missed_by_name(forge: Make, trust: TrustFile, name: str) -> None:
    verdict = refused(verify(forge(plain_claims(**{name: ...})), trust, NOW_UNIX_S))
    assert verdict.reason is RefusalReason.CLAIM_MISSING
    assert name in verdict.sentence


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "Rival"}, RefusalReason.WRONG_VENDOR),
        ({"iss": 7}, RefusalReason.WRONG_VENDOR),
        ({"jti": ""}, RefusalReason.CLAIM_WRONG),
        ({"jti": "x" * 65}, RefusalReason.CLAIM_WRONG),
        ({"jti": "a/../b"}, RefusalReason.CLAIM_WRONG),
        ({"product": "Platform"}, RefusalReason.CLAIM_WRONG),
        ({"product": "p" * 33}, RefusalReason.CLAIM_WRONG),
        ({"product": "fax"}, RefusalReason.PRODUCT_NOT_ALLOWED),
        ({"seats": 0}, RefusalReason.SEATS_OUT_OF_RANGE),
        ({"seats": -1}, RefusalReason.SEATS_OUT_OF_RANGE),
        ({"seats": 65_001}, RefusalReason.SEATS_OUT_OF_RANGE),
        ({"seats": True}, RefusalReason.SEATS_OUT_OF_RANGE),
        ({"seats": "10"}, RefusalReason.SEATS_OUT_OF_RANGE),
        ({"iat": -1}, RefusalReason.CLAIM_WRONG),
        ({"nbf": "now"}, RefusalReason.CLAIM_WRONG),
        ({"exp": NOW_UNIX_S}, RefusalReason.CLAIM_WRONG),
        ({"exp": 10**18}, RefusalReason.CLAIM_WRONG),
        ({"sub": "a\u0007b"}, RefusalReason.CLAIM_WRONG),
        ({"env": "production"}, RefusalReason.CLAIM_WRONG),
        ({"env": "test"}, RefusalReason.PRODUCTION_KEY_FOR_TEST),
        ({"seats_per_moon": 3}, RefusalReason.CLAIM_UNKNOWN),
        ({"aud": "another-broker"}, RefusalReason.CLAIM_UNKNOWN),
        ({"cnf": {}}, RefusalReason.BINDING_WRONG),
        ({"cnf": {"jkt": "short"}}, RefusalReason.BINDING_WRONG),
        ({"cnf": {"jkt": THUMBPRINT[:-1] + "t"}}, RefusalReason.BINDING_WRONG),
        ({"cnf": {"jkt": THUMBPRINT, "jwk": {}}}, RefusalReason.BINDING_WRONG),
        ({"cnf": {"x5t#S256": THUMBPRINT}}, RefusalReason.BINDING_WRONG),
        ({"cnf": "key"}, RefusalReason.CLAIM_WRONG),
        (
            {"cnf": ..., "machine": {"identifiers": ["a", "b"], "need": 1}},
            RefusalReason.MACHINE_BINDING_UNSUPPORTED,
        ),
        ({"machine": 3}, RefusalReason.CLAIM_WRONG),
        ({"terms": {"sharing": "everyone"}}, RefusalReason.TERM_WRONG),
        ({"terms": {"share_max": 4}}, RefusalReason.TERM_WRONG),
        ({"terms": {"weight": 0}}, RefusalReason.TERM_WRONG),
        ({"terms": {"stacking": "most"}}, RefusalReason.TERM_WRONG),
        ({"terms": {"linger_s": -1}}, RefusalReason.TERM_WRONG),
        ({"terms": {"only_on_tuesdays": True}}, RefusalReason.TERM_UNKNOWN),
        ({"terms": {"overdraft": {"seats": 2}}}, RefusalReason.TERM_UNSUPPORTED),
        ({"terms": {"borrow": {}}}, RefusalReason.TERM_UNSUPPORTED),
        ({"terms": {"model": "named"}}, RefusalReason.MODEL_UNSUPPORTED),
        ({"terms": {"model": "device"}}, RefusalReason.MODEL_UNSUPPORTED),
        ({"terms": {"model": "site"}}, RefusalReason.MODEL_UNSUPPORTED),
        ({"terms": {"model": "rented"}}, RefusalReason.TERM_WRONG),
        ({"terms": []}, RefusalReason.CLAIM_WRONG),
    ],
)
def test_each_wrong_claim_has_its_own_refusal(
    forge: Make, trust: TrustFile, changes: dict[str, Any], reason: RefusalReason
) -> None:
    verdict = refused(verify(forge(plain_claims(**changes)), trust, NOW_UNIX_S))
    assert verdict.reason is reason
    assert verdict.sentence.isprintable()


def test_a_refusal_of_an_authentic_document_names_licence_vendor_and_product(
    forge: Make, trust: TrustFile
) -> None:
    verdict = refused(verify(forge(plain_claims(seats=0)), trust, NOW_UNIX_S))
    assert (verdict.licence_id, verdict.vendor, verdict.product) == ("L-1", "Acme", "platform")
    assert "L-1" in verdict.sentence


def test_a_vendor_cannot_license_the_product_of_another(
    forge: Make, trust: TrustFile, other_vendor: Vendor
) -> None:
    verdict = refused(verify(forge(plain_claims(iss="Rival"), by=other_vendor), trust, NOW_UNIX_S))
    assert verdict.reason is RefusalReason.PRODUCT_NOT_ALLOWED
    assert "Rival" in verdict.sentence
    assert "platform" in verdict.sentence


def test_a_test_vendor_can_sign_only_test_licences(
    forge: Make, issue: Make, trust: TrustFile, test_vendor: Vendor
) -> None:
    assert accepted(verify(issue(test_vendor), trust, NOW_UNIX_S)).is_test
    verdict = refused(verify(forge(plain_claims(iss="Emulated Vendor"), by=test_vendor), trust, NOW_UNIX_S))
    assert verdict.reason is RefusalReason.TEST_KEY_FOR_PRODUCTION


def test_the_three_models_of_later_are_words_already() -> None:
    assert [model.name.lower() for model in LicenceModel] == ["named", "device", "concurrent", "site"]


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(read_licence(data, TrustFile()), Refusal)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["jkt", "model", "weight"]), inner)
    ),
    max_leaves=3,
)


@given(
    claims=st.dictionaries(
        st.sampled_from(
            [
                "iss",
                "jti",
                "iat",
                "nbf",
                "exp",
                "product",
                "seats",
                "cnf",
                "env",
                "terms",
                "machine",
                "sub",
                "?",
            ]
        ),
        json_values,
    )
)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_signed_claims_raise(hypothesis_vendor: Vendor, claims: dict[str, Any]) -> None:
    header = {"typ": "usher-licence+jwt", "alg": "EdDSA", "kid": hypothesis_vendor.entry.kid}
    for document in (
        _signed(header, claims, hypothesis_vendor.private),
        _signed(header, plain_claims() | claims, hypothesis_vendor.private),
    ):
        verdict = read_licence(document, hypothesis_vendor.trust)
        assert isinstance(verdict, Licence) or verdict.sentence.isprintable()


@pytest.fixture(scope="module")
def hypothesis_vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return create_vendor(tmp_path_factory.mktemp("vendor"), "Acme", ["platform"])


def _signed(
    header: dict[str, Any], claims: dict[str, Any], private: Ed25519PrivateKey | Ed448PrivateKey
) -> str:
    """A JWS made by hand, for headers that a library would not write."""
    parts = [encode_base64url(json.dumps(part).encode()) for part in (header, claims)]
    signature = private.sign(".".join(parts).encode())
    return ".".join((*parts, encode_base64url(signature)))
