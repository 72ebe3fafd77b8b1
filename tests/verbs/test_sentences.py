"""Sentences for people: each says cause, numbers and remedy in one or two sentences."""

from __future__ import annotations

import dataclasses

import pytest

from broker.model.answers import DenialView
from broker.model.events import Event
from broker.model.words import JOURNAL_KINDS, Bound, DenialReason, EndReason, EventKind
from broker.verbs.sentences import denial_sentence, event_sentence, not_found_sentence, overloaded_sentence

S = 10**9
FULL = DenialView(
    reason=DenialReason.NO_FREE_SEATS,
    product="platform",
    capacity=15,
    in_use=15,
    reserved=0,
    withheld=0,
    deficit=0,
    waiters=0,
    retry_after_ns=5 * S,
)


def denied(reason: DenialReason, **numbers: int) -> str:
    return denial_sentence(dataclasses.replace(FULL, reason=reason, **numbers))


def test_a_full_product_says_how_many_seats_and_when_to_ask_again() -> None:
    assert denial_sentence(FULL) == "All 15 seats of platform are in use; ask again in 5 s, or plug in another key."


def test_a_single_seat_is_not_called_all_seats() -> None:
    assert denied(DenialReason.NO_FREE_SEATS, capacity=1, in_use=1).startswith("The only seat of platform is in use;")


def test_too_few_free_seats_are_not_called_all_in_use() -> None:
    sentence = denied(DenialReason.NO_FREE_SEATS, in_use=14)
    assert sentence.startswith("Only 1 of the 15 seats of platform is free, and this takes more;")


def test_a_missing_key_says_what_is_in_use_and_what_is_left() -> None:
    assert denied(DenialReason.DEFICIT, capacity=5, in_use=12, deficit=7) == (
        "A key of platform is missing: 12 seats are in use, but the keys present give 5, so nobody new is let in."
        " Plug the key back in, or ask again in 5 s."
    )


def test_a_starting_broker_says_so() -> None:
    assert denied(DenialReason.KEYS_STARTING, retry_after_ns=S) == (
        "The broker has just started and is still proving its keys of platform; ask again in 1 s."
    )


@pytest.mark.parametrize("reason", [reason for reason in DenialReason if reason is not DenialReason.NONE])
def test_every_denial_names_the_product_in_one_or_two_sentences(reason: DenialReason) -> None:
    sentence = denied(reason)
    assert "platform" in sentence
    assert sentence.endswith(".")
    assert 1 <= sentence.count(". ") + 1 <= 2
    assert len(sentence) < 250


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_end_has_its_sentence_for_who_comes_too_late(reason: EndReason) -> None:
    sentence = not_found_sentence("3.1042", reason)
    assert sentence.startswith("Session 3.1042 ")
    assert sentence.endswith("; open a new one.")


@pytest.mark.parametrize("bound", [bound for bound in Bound if bound is not Bound.NONE])
def test_every_bound_has_its_sentence(bound: Bound) -> None:
    assert overloaded_sentence(bound).endswith(".")
    assert "records" not in overloaded_sentence(bound)


@pytest.mark.parametrize("kind", sorted(set(EventKind) - JOURNAL_KINDS - {EventKind.NONE}))
def test_every_kind_of_event_that_people_are_told_of_has_its_sentence(kind: EventKind) -> None:
    reason = DenialReason.NO_FREE_SEATS if kind is EventKind.DENIED else EndReason.KEY_LOST
    event = Event(1, 0, kind, reason, 5, 6, 0, 0, 1, 0, user=b"ann", host=b"desk-1", app=b"crm/1")
    sentence = event_sentence(event, "3.5", "platform")
    assert sentence.endswith(".")
    assert "platform" in sentence or "3.5" in sentence


def test_counted_denials_say_how_many() -> None:
    event = Event(1, 0, EventKind.DENIED, DenialReason.NO_FREE_SEATS, 0, 0, -1, 0, 240, 0)
    assert event_sentence(event, "", "platform") == "240 requests for platform were denied: no_free_seats."
