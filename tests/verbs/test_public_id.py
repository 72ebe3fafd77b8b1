"""Public ids: two halves of a fence, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.verbs.public_id import fence_of, public_id_of


@given(generation=st.integers(1, 2**23 - 1), counter=st.integers(1, 2**40 - 1))
def test_a_public_id_names_its_fence_and_back(generation: int, counter: int) -> None:
    public_id = public_id_of(generation << 40 | counter)
    assert public_id == f"{generation}.{counter}"
    assert fence_of(public_id) == generation << 40 | counter


@pytest.mark.parametrize(
    "text",
    ["", "3", "3.", ".3", "0.1", "3.0", "03.1", "3.01", "-3.1", "3.1 ", "3.1\n", "٣.١", "16777216.1", "3.1099511627776", "a.b", "3.1.2"],
)
def test_what_is_no_public_id_names_no_fence(text: str) -> None:
    assert fence_of(text) is None


def test_the_fence_of_no_session_has_no_public_id() -> None:
    assert public_id_of(0) == ""
