"""Levels that rows are asked to have, in whatever form they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.synthesis.test_public import JOINT
from twinweave.errors import ConfigError
from twinweave.synthesis.given import given_codes


@pytest.mark.parametrize("levels", ["q", np.str_("q"), ["q"], ("q",), np.array(["q"])])
def test_a_level_is_a_code(levels: Any) -> None:
    (codes,) = given_codes(JOINT, {"x": levels}).values()
    assert codes.tolist() == [1]


@pytest.mark.parametrize("levels", [None, 3, np.int64(3), [None], "z"])
def test_what_is_no_level_is_named(levels: Any) -> None:
    with pytest.raises(ConfigError, match=r"given\.x.*Its levels: p, q, r"):
        given_codes(JOINT, {"x": levels})
