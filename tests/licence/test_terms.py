"""The terms of a licence: read, written, and refused when this broker cannot keep them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.licence import LicenceTerms, Stacking
from broker.licence.refusal import RefusalReason, Refused
from broker.licence.terms import UNSERVED, parse_terms, read_terms, terms_claim
from broker.model.terms import PoolTerms
from broker.model.words import LicenceModel, Sharing

S = 1_000_000_000


def test_no_terms_are_the_plain_ones() -> None:
    assert parse_terms({}, "crm") == LicenceTerms()
    assert terms_claim(LicenceTerms()) == {}


def test_every_term_of_the_format_is_read() -> None:
    members = {
        "model": "named",
        "sharing": "user_host",
        "share_max": 3,
        "weight": 2,
        "stacking": "one_per_host",
        "linger_s": 5,
        "min_hold_s": 6,
        "ttl_s_max": 30,
        "requires": ["platform", "base"],
    }
    assert read_terms(members, "crm") == LicenceTerms(
        PoolTerms(LicenceModel.NAMED, Sharing.USER_HOST, 3, 2, 5 * S, 6 * S),
        Stacking.ONE_PER_HOST,
        30 * S,
        ("base", "platform"),
    )


@pytest.mark.parametrize("name", sorted(UNSERVED))
def test_a_term_that_nobody_applies_yet_refuses_the_licence(name: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_terms({name: ["platform"]}, "crm")
    assert caught.value.reason is RefusalReason.TERM_UNSUPPORTED
    assert name in caught.value.sentence


@pytest.mark.parametrize(
    "members",
    [
        {"requires": []},
        {"requires": "platform"},
        {"requires": ["Platform"]},
        {"requires": ["a", "a"]},
        {"requires": ["crm"]},
        {"requires": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]},
        {"ttl_s_max": 4},
        {"ttl_s_max": 86_401},
        {"weight": 1_001},
        {"weight": True},
        {"min_hold_s": 604_801},
        {"share_max": 0, "sharing": "user"},
        {"stacking": ["sum"]},
    ],
)
def test_terms_out_of_their_bounds_are_refused(members: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read_terms(members, "crm")
    assert caught.value.reason is RefusalReason.TERM_WRONG


terms_strategy = st.builds(
    LicenceTerms,
    pool=st.builds(
        PoolTerms,
        model=st.sampled_from(LicenceModel),
        sharing=st.sampled_from([Sharing.USER, Sharing.HOST, Sharing.USER_HOST]),
        share_max=st.integers(0, 65_000),
        weight=st.integers(1, 1_000),
        linger_ns=st.integers(0, 604_800).map(lambda s: s * S),
        min_hold_ns=st.integers(0, 604_800).map(lambda s: s * S),
    ),
    stacking=st.sampled_from(Stacking),
    ttl_ns_max=st.sampled_from([0, 5 * S, 86_400 * S]),
    requires=st.lists(st.from_regex(r"[a-z][a-z0-9_.-]{0,31}", fullmatch=True), max_size=8, unique=True).map(
        lambda ids: tuple(sorted(i for i in ids if i != "crm"))
    ),
)


@given(terms_strategy)
def test_terms_survive_being_written_and_read(terms: LicenceTerms) -> None:
    assert read_terms(terms_claim(terms), "crm") == terms
