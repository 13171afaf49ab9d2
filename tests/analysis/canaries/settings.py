"""Runs for canaries, small enough for tests: a larger epsilon needs fewer of them."""

from __future__ import annotations

from functools import cache

import numpy as np

from twinweave.config import RunConf, compose

EPSILON = 4.0
ROWS = {"publisher": 80, "advertiser": 120}
GENERATORS = ("tvae", "ctgan", "llm")
_SMALL = {
    "tvae": ("width=16", "latent=4"),
    "ctgan": ("width=16", "latent=4", "discriminator_width=16", "generator_batch=32"),
    "llm": ("width=16", "heads=2", "hidden=16", "layers=1"),
}


@cache
def conf_of(generator: str = "tvae", *more: str) -> RunConf:
    training = ("expected_batch=16", "local_steps=15", "rounds=2", *_SMALL[generator])
    overrides = [f"generator.{text}" for text in training]
    privacy = ["privacy=public", f"privacy.epsilon={EPSILON}"]
    asked = [f"generator={generator}", *overrides, *privacy, "engine=inprocess", *more]
    return RunConf.parse(compose(asked))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
