"""SipHash-2-4-128 against the vectors of its authors (vectors.h of the reference code, vectors_sip128)."""

from __future__ import annotations

import pytest

from broker._ledger import siphash

SECRET = bytes(range(16))

VECTORS = [
    (0, "a3817f04ba25a8e66df67214c7550293"),
    (1, "da87c1d86b99af44347659119b22fc45"),
    (2, "8177228da4a45dc7fca38bdef60affe4"),
    (3, "9c70b60c5267a94e5f33b6b02985ed51"),
    (15, "5493e99933b0a8117e08ec0f97cfc3d9"),
]


@pytest.mark.parametrize(("size", "expected"), VECTORS)
def test_the_reference_vectors_come_out(size: int, expected: str) -> None:
    assert siphash(SECRET, bytes(range(size))).hex() == expected


def test_a_secret_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="secret has 8 bytes"):
        siphash(bytes(8), b"")
