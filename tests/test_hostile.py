"""A sample of all that a stranger can send; ``python -m tests.support.hostile`` tries a hundred thousand."""

from __future__ import annotations

import sys
import warnings

import pytest

from tests.support import hostile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no limit of processor time there")


def test_all_together_are_a_hundred_thousand_tries() -> None:
    assert sum(most for _, most in hostile.KINDS.values()) >= 100_000


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_whatever_is_sent_gives_a_result_or_a_reason(kind: str) -> None:
    most = hostile.KINDS[kind][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's, of what else lies in a zip
        assert hostile.tried(kind, 0.01) >= max(1, most // 100)
