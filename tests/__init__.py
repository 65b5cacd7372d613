"""Tests of attnxr; cases.py, models.py and oracles.py hold what they share."""

import pytest

pytest.register_assert_rewrite("tests.support.cases", "tests.support.oracles")
