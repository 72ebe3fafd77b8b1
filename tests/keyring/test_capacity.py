"""What is told to the ledger: the difference between what should count and what was told, and nothing else."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.keyring.book import CapacityBook
from broker.keyring.capacity import KeyStanding, decide
from broker.licence import Licence, LicenceTerms, Stacking
from broker.model.terms import PoolTerms
from broker.model.words import EndReason, Sharing

from .conftest import NOW_UNIX_S, RecordingSink

S = 1_000_000_000
ONE_PER_HOST = LicenceTerms(stacking=Stacking.ONE_PER_HOST)


def a_licence(name: str, thumbprint: str = "key", seats: int = 10, **points: Any) -> Licence:
    usual: dict[str, Any] = {
        "licence_id": name,
        "vendor": "Acme",
        "product": "platform",
        "seats": seats,
        "thumbprint": thumbprint,
        "issued_unix_s": 0,
        "not_before_unix_s": 0,
        "expires_unix_s": None,
        "is_test": False,
        "customer": "",
        "terms": LicenceTerms(),
        "kid": "kid",
        "digest": f"digest of {name}",
        "file": f"{name}.jwt",
    }
    return Licence(**(usual | points))


class Bench:
    """The book and the decisions over keys that a test sets."""

    def __init__(self, source_count_max: int = 4096) -> None:
        self.sink = RecordingSink()
        self.book = CapacityBook(self.sink, source_count_max)
        self.licences: list[Licence] = []
        self.standings: dict[str, KeyStanding] = {}

    def prove(self, thumbprint: str, at_ns: int) -> None:
        self.standings[thumbprint] = KeyStanding(at_ns + 90 * S, at_ns + 300 * S)

    def lose(self, thumbprint: str, cause: EndReason = EndReason.KEY_LOST) -> None:
        self.standings[thumbprint] = KeyStanding(0, self.standings[thumbprint].grace_until_ns, cause)

    def at(self, now_ns: int, now_unix_s: int = NOW_UNIX_S) -> list[str]:
        decision = decide(now_ns, now_unix_s, self.licences, self.standings, self.book.given)
        self.book.apply(decision.commands)
        return [f"{type(one).__name__} {one.licence.licence_id}" for one in decision.commands]


def test_a_decision_repeated_says_nothing_new() -> None:
    bench = Bench()
    bench.licences = [a_licence("L-1"), a_licence("L-2", seats=5)]
    bench.prove("key", 0)
    assert bench.at(1) == ["ProveSource L-1", "ProveSource L-2"]
    assert bench.at(2) == []
    assert bench.sink.seats("platform") == 15


def test_only_test_licences_count_on_an_emulated_key() -> None:
    bench = Bench()
    bench.licences = [a_licence("real"), a_licence("test", seats=3, is_test=True)]
    bench.standings["key"] = KeyStanding(90 * S, 300 * S, is_emulated=True)
    assert bench.at(1) == ["ProveSource test"]
    assert bench.sink.seats("platform") == 3
    bench.prove("key", 2 * S)
    assert bench.at(2 * S) == ["ProveSource real", "ProveSource test"]  # a real key proves either
    bench.standings["key"] = KeyStanding(95 * S, 300 * S, is_emulated=True)
    assert bench.at(3 * S) == ["ProveSource test", "LoseSource real"]


def test_a_new_proof_renews_every_licence_of_the_key_and_no_other() -> None:
    bench = Bench()
    bench.licences = [a_licence("L-1"), a_licence("L-2"), a_licence("L-3", "other")]
    bench.prove("key", 0)
    bench.prove("other", 0)
    bench.at(0)
    bench.prove("key", 45 * S)
    assert bench.at(45 * S) == ["ProveSource L-1", "ProveSource L-2"]
    assert bench.sink.sources[0][2:] == (135 * S, 345 * S)


def test_a_lost_key_keeps_its_number_until_grace_is_over_and_then_gives_it_back() -> None:
    bench = Bench()
    bench.licences = [a_licence("L-1")]
    bench.prove("key", 0)
    bench.at(0)
    bench.lose("key")
    assert bench.at(10 * S) == ["LoseSource L-1"]
    assert bench.sink.lost[0] == (300 * S, EndReason.KEY_LOST), "grace runs from the last proof"
    assert bench.at(299 * S) == []
    assert bench.at(300 * S) == ["RemoveSource L-1"]
    assert bench.sink.sources == {}
    bench.licences = [a_licence("L-2", "other", product="crm")]
    bench.prove("other", 400 * S)
    bench.at(400 * S)
    assert set(bench.sink.sources) == {0}


def test_a_key_that_returns_in_grace_heals_the_same_source() -> None:
    bench = Bench()
    bench.licences = [a_licence("L-1")]
    bench.prove("key", 0)
    bench.at(0)
    bench.lose("key")
    bench.at(10 * S)
    bench.prove("key", 20 * S)
    assert bench.at(20 * S) == ["ProveSource L-1"]
    assert bench.sink.lost == {}


def test_a_proof_that_ended_takes_its_seats_even_if_nobody_said_so() -> None:
    bench = Bench()
    bench.licences = [a_licence("L-1")]
    bench.prove("key", 0)
    bench.at(0)
    assert bench.at(90 * S - 1) == []
    assert bench.at(90 * S) == ["LoseSource L-1"]


def test_each_loss_has_its_cause() -> None:
    bench = Bench()
    bench.licences = [
        a_licence("expiring", expires_unix_s=NOW_UNIX_S + 1),
        a_licence("withdrawn"),
        a_licence("pulled", "other"),
        a_licence("disabled", "third"),
    ]
    for thumbprint in ("key", "other", "third"):
        bench.prove(thumbprint, 0)
    bench.at(0)
    bench.licences = [one for one in bench.licences if one.licence_id != "withdrawn"]
    bench.lose("other")
    bench.lose("third", EndReason.POLICY_CHANGED)
    bench.at(1, NOW_UNIX_S + 1)
    causes = {
        bench.book.given[f"digest of {one}"].is_lost
        for one in ("expiring", "withdrawn", "pulled", "disabled")
    }
    assert causes == {True}
    assert bench.sink.causes() == [
        EndReason.LICENCE_ENDED,
        EndReason.POLICY_CHANGED,
        EndReason.KEY_LOST,
        EndReason.POLICY_CHANGED,
    ]


def test_a_licence_that_replaces_another_counts_before_the_other_goes() -> None:
    bench = Bench()
    bench.licences = [a_licence("old")]
    bench.prove("key", 0)
    bench.at(0)
    bench.licences = [a_licence("new")]
    assert bench.at(1) == ["ProveSource new", "LoseSource old"]


def test_a_decision_says_how_long_it_stands() -> None:
    licences = [
        a_licence("a", expires_unix_s=NOW_UNIX_S + 50),
        a_licence("b", not_before_unix_s=NOW_UNIX_S + 20),
    ]
    decision = decide(0, NOW_UNIX_S, licences, {"key": KeyStanding(90 * S, 300 * S)}, {})
    assert (decision.stands_until_ns, decision.stands_until_unix_s) == (90 * S, NOW_UNIX_S + 20)


def test_a_decision_that_loses_a_licence_stands_until_its_grace_is_over() -> None:
    bench = Bench()
    bench.licences = [a_licence("L-1")]
    bench.prove("key", 0)
    bench.at(0)
    bench.lose("key")
    decision = decide(10 * S, NOW_UNIX_S, bench.licences, bench.standings, bench.book.given)
    assert decision.stands_until_ns == 300 * S


# --- one key a host -------------------------------------------------------------------------------------------------


def test_of_a_series_the_largest_key_counts_with_all_its_licences() -> None:
    bench = Bench()
    bench.licences = [
        a_licence("a-5", "a", 5, terms=ONE_PER_HOST),
        a_licence("a-20", "a", 20, terms=ONE_PER_HOST),
        a_licence("b-24", "b", 24, terms=ONE_PER_HOST),
        a_licence("plain", "b", 3),
    ]
    bench.prove("a", 0)
    bench.prove("b", 0)
    bench.at(0)
    assert bench.sink.seats("platform") == 28
    decision = decide(0, NOW_UNIX_S, bench.licences, bench.standings, bench.book.given)
    assert decision.set_aside == {"digest of b-24": "a"}


def test_a_larger_key_displaces_the_smaller_first_and_an_equal_one_does_not() -> None:
    bench = Bench()
    bench.licences = [a_licence("b", "b", terms=ONE_PER_HOST)]
    bench.prove("b", 0)
    bench.at(0)
    bench.licences += [a_licence("a", "a", terms=ONE_PER_HOST), a_licence("c", "c", terms=ONE_PER_HOST)]
    bench.prove("a", 0)
    bench.prove("c", 0)
    assert bench.at(1) == []
    bench.licences.append(a_licence("large", "d", 50, terms=ONE_PER_HOST))
    bench.prove("d", 1)
    assert bench.at(1) == ["LoseSource b", "ProveSource large"]
    assert bench.sink.causes() == [EndReason.POLICY_CHANGED]


def test_keys_of_other_terms_products_or_vendors_are_other_series() -> None:
    bench = Bench()
    others = LicenceTerms(PoolTerms(sharing=Sharing.USER), Stacking.ONE_PER_HOST)
    bench.licences = [
        a_licence("a", "a", 5, terms=ONE_PER_HOST),
        a_licence("b", "b", 6, terms=others),
        a_licence("c", "c", 7, terms=ONE_PER_HOST, vendor="Rival"),
        a_licence("d", "d", 8, terms=ONE_PER_HOST, product="crm"),
    ]
    for one in "abcd":
        bench.prove(one, 0)
    assert len(bench.at(0)) == 4


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_more_licences_than_sources_are_named_and_come_in_when_one_goes() -> None:
    bench = Bench(source_count_max=1)
    first, second = a_licence("L-1", "a"), a_licence("L-2", "b")
    bench.licences = [first, second]
    bench.prove("a", 0)
    bench.prove("b", 0)
    bench.at(0)
    assert (bench.book.refusal(first), bool(bench.book.refusal(second))) == ("", True)
    assert bench.sink.seats("platform") == 10
    bench.lose("a")
    bench.at(1)
    bench.prove("b", 300 * S)
    bench.at(300 * S)
    bench.at(300 * S)
    assert bench.book.refusal(second) == ""
    assert bench.sink.seats("platform") == 10


# --- whatever happens -------------------------------------------------------------------------------------------------

happenings = st.lists(
    st.tuples(
        st.sampled_from(["prove", "lose", "withdraw", "add", "nothing"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 4),
        st.integers(0, 120),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(happenings)
def test_the_ledger_never_has_more_than_proven_keys_and_valid_licences_give(
    steps: list[tuple[str, str, int, int]],
) -> None:
    """Against the rule said outright; the recording sink asserts that each call makes sense after the last."""
    all_licences = [
        a_licence("a1", "a", 5, expires_unix_s=NOW_UNIX_S + 500),
        a_licence("a2", "a", 7, not_before_unix_s=NOW_UNIX_S + 300),
        a_licence("b1", "b", 11),
        a_licence("b2", "b", 13, terms=ONE_PER_HOST),
        a_licence("c1", "c", 17, terms=ONE_PER_HOST),
    ]
    bench, now_s = Bench(), 0
    for what, thumbprint, index, wait_s in steps:
        now_s += wait_s
        if what == "prove":
            bench.prove(thumbprint, now_s * S)
        elif what == "lose" and thumbprint in bench.standings:
            bench.lose(thumbprint)
        elif what == "withdraw":
            bench.licences = [one for one in bench.licences if one is not all_licences[index]]
        elif what == "add" and all_licences[index] not in bench.licences:
            bench.licences.append(all_licences[index])
        bench.at(now_s * S, NOW_UNIX_S + now_s)
        live = [
            one
            for one in bench.licences
            if one.thumbprint in bench.standings
            and bench.standings[one.thumbprint].proven_until_ns > now_s * S
            and one.not_before_unix_s <= NOW_UNIX_S + now_s < (one.expires_unix_s or 10**12)
        ]
        series = [one.seats for one in live if one.terms is ONE_PER_HOST]
        plain = [one.seats for one in live if one.terms is not ONE_PER_HOST]
        assert bench.sink.seats("platform") == sum(plain) + max(series, default=0)
        assert bench.at(now_s * S, NOW_UNIX_S + now_s) == [], "a decision settles everything at once"
