"""What would decide it, against the errors it would have."""

from __future__ import annotations

from math import hypot, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinweave.analysis.lift.needed import REACH, needed_for, users_times
from twinweave.analysis.lift.results import Needed
from twinweave.privacy.accountant import gaussian_mu

errors = st.floats(1e-4, 10)


def needed(size: float, noise: float, sampling: float, epsilon: float = 1.0) -> Needed:
    return needed_for(
        size,
        noise=noise,
        sampling=sampling,
        errors=2.8,
        users=1000,
        epsilon=epsilon,
        delta=1e-5,
    )


@given(errors, errors, errors)
def test_so_many_users_have_the_error_asked_for(
    noise: float, sampling: float, error: float
) -> None:
    times = users_times(noise=noise, sampling=sampling, error=error)
    assert hypot(noise / times, sampling / times**0.5) == pytest.approx(error)


@given(errors, errors, errors)
def test_what_is_named_finds_it(size: float, noise: float, sampling: float) -> None:
    found = needed(size, noise, sampling)
    assert found.sampling_alone == (2.8 * sampling >= size)
    if found.epsilon is not None:
        assert 1 <= found.epsilon <= REACH + 1e-6
        less = gaussian_mu(1.0, 1e-5) / gaussian_mu(found.epsilon, 1e-5)
        assert 2.8 * hypot(noise * less, sampling) <= size * (1 + 1e-6)
        if found.epsilon > 1 + 1e-9:
            assert 2.8 * hypot(noise * less, sampling) == pytest.approx(size)
    if found.users is not None:
        times = found.users / 1000
        assert found.times == pytest.approx(times)
        assert 2.8 * hypot(noise / times, sampling / times**0.5) <= size * (1 + 1e-9)


def test_no_effect_is_not_found_by_anything() -> None:
    found = needed(0.0, 1.0, 1.0)
    assert (found.epsilon, found.users, found.sampling_alone) == (None, None, True)
    assert users_times(noise=1.0, sampling=1.0, error=0.0) == inf
    # So near below what sampling allows that only an epsilon without a meaning would do.
    found = needed(2.8001, 100.0, 1.0)
    assert (found.epsilon, found.sampling_alone) == (None, False)
