"""CPU seconds of the masked secure sum, beside Flower's SecAgg+ utilities on the same sizes.

One thread, the best of a few repetitions. Masking: what one client does for one round.
Unmasking: what the server does to open a sum when one party dropped out.

    python -m scripts.benchmarks.secure_sum --params 10000000 --parties 10
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.parties import Meter, sum_parties
from scripts.benchmarks.timing import cpu, fewest
from twinweave.protocols.ring import dtype_of
from twinweave.protocols.secure_sum.fixed_point import FixedPoint
from twinweave.protocols.secure_sum.graph import derived_degree
from twinweave.protocols.secure_sum.interface import SumParty
from twinweave.protocols.secure_sum.kinds import SumServer, server_end
from twinweave.protocols.secure_sum.masks import apply_masks
from twinweave.protocols.secure_sum.plan import SumPlan

FRACTIONAL_BITS = 20


def bench_masking(n_params: int, n_parties: int, bits: int, repeat: int) -> dict[str, float]:
    """Our own figures: setup, masks alone, encoding and masks, unmasking with one dropped."""
    plan = SumPlan(
        run="bench",
        label="bench",
        parties=tuple(f"party{i:04d}" for i in range(n_parties)),
        rounds=repeat + 1,
        encoding=FixedPoint(
            bits=64 if bits == 64 else 32, fractional_bits=FRACTIONAL_BITS, n_parties=n_parties
        ),
        colluding=1,
    )
    parties, setup = cpu(lambda: sum_parties("masking", plan, Meter()))
    names = list(parties)
    degree = len(plan.neighbours[names[0]])
    values = np.random.default_rng(0).normal(0, 0.01, n_params)
    words = np.zeros(n_params, dtype_of(bits))
    seeds = [os.urandom(32) for _ in range(degree + 1)]
    rounds = iter(range(1, repeat + 1))
    alive = names if plan.needs_everyone else names[:-1]
    server, answers = _filled(plan, {name: parties[name] for name in alive}, values)
    return {
        f"setup of all {n_parties} parties": setup,
        f"mask: {degree + 1} masks in place": fewest(
            lambda: apply_masks(words, plus=seeds, minus=()), repeat
        ),
        "mask: encoding and masks": fewest(
            lambda: parties[names[0]].protect(values, next(rounds)), repeat
        ),
        f"unmask with {n_parties - len(alive)} dropped": fewest(
            lambda: server.finish(answers), repeat
        ),
    }


def _filled(
    plan: SumPlan, alive: Mapping[str, SumParty], values: NDArray[np.float64]
) -> tuple[SumServer, dict[str, Any]]:
    """A server that has the uploads of round 0 and the answers to its request."""
    server = server_end("masking", plan, round_=0, length=len(values))
    masked = {}
    for name, party in alive.items():
        masked[name], upload = party.protect(values, 0)
        server.add(name, upload)
    requests = server.requests()
    return server, {name: masked[name].reveal(request)[1] for name, request in requests.items()}


def bench_flower(n_params: int, n_parties: int, degree: int, repeat: int) -> dict[str, float]:
    """Flower's SecAgg+ utilities in the order of its client and server, on the same graph.

    Raises ImportError.
    """
    from flwr.common.secure_aggregation.ndarrays_arithmetic import (
        parameters_addition,
        parameters_mod,
        parameters_subtraction,
    )
    from flwr.common.secure_aggregation.quantization import quantize
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    modulus = 1 << 32  # Flower's default range of masks
    seeds = [os.urandom(32) for _ in range(n_parties + degree)]
    values = [np.random.default_rng(0).normal(0, 0.01, n_params)]
    quantized = quantize(values, 8.0, 1 << 22)
    shape: list[tuple[int, ...]] = [(n_params,)]

    def mask() -> list[NDArray[np.int64]]:
        vector = quantized
        for seed in seeds[: degree + 1]:  # its own private mask and one a neighbour
            vector = parameters_addition(vector, pseudo_rand_gen(seed, modulus, shape))
        return parameters_mod(vector, modulus)

    def unmask() -> list[NDArray[np.int64]]:
        vector = quantized
        for seed in seeds[1:]:  # private masks of the survivors, pair masks of the dropped
            vector = parameters_subtraction(vector, pseudo_rand_gen(seed, modulus, shape))
        return parameters_mod(vector, modulus)

    return {
        f"mask: {degree + 1} masks": fewest(mask, repeat),
        "mask: quantisation and masks": fewest(lambda: (quantize(values, 8.0, 1 << 22), mask()), 1),
        "unmask with 1 dropped": fewest(unmask, repeat),
    }


def show(title: str, figures: Mapping[str, float]) -> None:
    print(title)
    for name, seconds in figures.items():
        print(f"  {name:<34} {seconds:8.3f} s CPU")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--params", type=int, default=10_000_000)
    parser.add_argument("--parties", type=int, nargs="+", default=[10])
    parser.add_argument("--bits", type=int, choices=(32, 64), default=32)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args(argv)
    for n in args.parties:
        print(f"{args.params:,} parameters, {n} parties")
        show(
            f" twinweave masking, {args.bits} bits",
            bench_masking(args.params, n, args.bits, args.repeat),
        )
        try:
            show(" Flower SecAgg+ utilities", bench_flower(args.params, n, derived_degree(n, 1), 1))
        except ImportError as error:
            print(f" Flower SecAgg+ utilities: skipped, {error}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
