"""Refusals of a homomorphic sum do not tell what a ciphertext decrypts to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.protocols.secure_sum.test_kinds import PLANS, make, upload
from twinweave.errors import ProtocolError
from twinweave.protocols import lattice
from twinweave.protocols.secure_sum import homomorphic

pytest.importorskip("tenseal")


@pytest.mark.attack("ckks")
@pytest.mark.broken("ckks")
def test_two_texts_of_refusal_would_tell_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """At commit 8ee12a0, 94 refusals opened a party's vector: by whether a sum is in range."""
    plan = PLANS[3]
    values = {p: np.array([1.5, -2.0]) for p in plan.parties}
    parties = make("homomorphic", plan)
    server, at = upload("homomorphic", parties, values)
    request = server.requests()["p000"]
    words = parties["p001"].protect(values["p001"], 0)[1].words

    def refusal(offset: float) -> str:
        with pytest.raises(ProtocolError) as caught:
            at["p000"].reveal(replace(request, words=shifted(words, offset)))
        return str(caught.value)

    def told() -> float:
        """The first value, in units, by bisection: beyond 2**31 it would be out of range."""
        low, high, inside = -(2**30), 2**30, refusal(0)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if refusal(2.0**31 - middle) == inside else (middle, high)
        return low / 2**plan.encoding.fractional_bits

    assert told() != 1.5
    real = homomorphic._rounded

    def says_so(found: Any) -> Any:
        try:
            return real(found)
        except ProtocolError:
            raise ProtocolError("not a sum of vectors.") from None

    monkeypatch.setattr(homomorphic, "_rounded", says_so)
    assert told() == 1.5


def shifted(words: NDArray[np.uint8], offset: float) -> NDArray[np.uint8]:
    """A ciphertext whose first value is larger: that takes no key."""
    api = lattice.available("test")
    context = homomorphic.PARAMETERS.context()
    ciphertext = homomorphic._load(words, "test")[0]
    half = homomorphic.PARAMETERS.degree // 2
    plain = api.Plaintext()
    row = [complex(offset), *[0j] * (half - 1)]
    api.CKKSEncoder(context).encode(row, homomorphic.SCALE, plain)
    api.Evaluator(context).add_plain_inplace(ciphertext, plain)
    return np.frombuffer(lattice.join([lattice.dump(ciphertext)]), np.uint8)
