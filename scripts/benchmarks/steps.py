"""A private step over a plain one, for each generator: `python -m scripts.benchmarks.steps`.

Both timed in the same run, in CPU milliseconds of one thread, medians; rows of Adult's shape
drawn at random.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from twinweave.config import compose
from twinweave.errors import ConfigError
from twinweave.generators import registry
from twinweave.generators.conf import CtganConf, GeneratorConf, GradientMode
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.generators.union import UnionLayout
from twinweave.parsing import parse

if TYPE_CHECKING:
    from twinweave.generators.ctgan import Adversary

SIZES = (16, 9, 16, 16, 7, 15, 6, 5, 2, 9, 6, 16, 42, 2)
ROWS = 32_561
SLOW = ("hooks", "functorch")


def main(batch: int = 512, repeats: int = 40) -> None:
    import torch

    torch.set_num_threads(1)
    print(f"{'':<8}{'plain':>10}" + "".join(f"{m:>22}" for m in get_args(GradientMode)))
    for name in ("tvae", "ctgan", "llm"):
        conf = _conf(name, batch)
        steps = {"plain": _plain(conf), **{m: _private(conf, m) for m in get_args(GradientMode)}}
        found = _medians(steps, repeats)
        cells = (_cell(found.get(m), found["plain"]) for m in get_args(GradientMode))
        print(
            f"{name:<8}{found['plain']:>7.1f} ms" + "".join(f"{c:>22}" for c in cells), flush=True
        )


def _cell(found: float | None, plain: float) -> str:
    return "not possible" if found is None else f"{found:8.1f} ms ({found / plain:5.2f} x)"


def _conf(name: str, batch: int) -> GeneratorConf:
    raw = compose([f"generator={name}"])["generator"]
    kinds: dict[str, Any] = {kind.name: kind for kind in get_args(GeneratorConf)}
    conf: GeneratorConf = parse(kinds[name], raw)
    return replace(conf, expected_batch=batch, local_steps=10**6)


def _medians(steps: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(repeats):
        for name, step in steps.items():
            if name in SLOW and number >= 5:
                continue
            started = time.process_time()
            try:
                step()
            except ConfigError:  # Opacus's norms are not exact for some layers
                steps = {k: v for k, v in steps.items() if k != name}
                continue
            times[name].append(1e3 * (time.process_time() - started))
    return {name: float(np.median(found)) for name, found in times.items() if found}


def _layout() -> UnionLayout:
    names = tuple(f"c{i}" for i in range(len(SIZES)))
    return UnionLayout(parties=("a",), names=names, sizes=SIZES, holders=((0,),) * len(SIZES))


def _rows() -> Any:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, s, ROWS) for s in SIZES], axis=1)


def _plan(conf: GeneratorConf) -> SgdPlan:
    return SgdPlan.of(conf, rows=ROWS, noise_multiplier=1.0)


def _adversary(conf: CtganConf) -> Adversary:
    from twinweave.generators.base import LocalRound
    from twinweave.generators.ctgan import Ctgan
    from twinweave.generators.engine import PrivacyEngine

    layout, plan = _layout(), _plan(conf)
    local = LocalRound(
        codes=_rows(),
        held=np.ones(len(SIZES), bool),
        plan=plan,
        engine=PrivacyEngine.of(plan),
        one_way={n: np.ones(s) for n, s in zip(layout.names, SIZES, strict=True)},
        state={},
    )
    return Ctgan(conf, layout).adversary(local)


def _plain(conf: GeneratorConf) -> Callable[[], Any]:
    import torch

    rows, source, generator = torch.from_numpy(_rows()), RandomSource(), torch.Generator()

    def batch() -> Any:
        return rows[torch.from_numpy(source.poisson_sample(ROWS, conf.expected_batch / ROWS))]

    if isinstance(conf, CtganConf):
        return _plain_ctgan(conf, batch)
    network: Any = registry.build(conf, _layout())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        network.row_loss(batch(), generator).mean().backward()
        optimizer.step()

    return step


def _plain_ctgan(conf: CtganConf, batch: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    adversary = _adversary(conf)
    optimizer = torch.optim.Adam(adversary.discriminator.parameters(), lr=1e-3)

    def step() -> None:
        with torch.no_grad():
            fakes, _, conditions, _ = adversary.fake(conf.expected_batch)
        optimizer.zero_grad()
        with adversary.private.unhooked():
            loss = adversary.row_loss(batch(), adversary.generator, (fakes, conditions))
            torch.autograd.backward(loss.mean())
        optimizer.step()
        adversary.discriminator.project()

    return step


def _private(conf: GeneratorConf, mode: GradientMode) -> Callable[[], Any]:
    import torch

    from twinweave.generators.engine import PrivacyEngine
    from twinweave.generators.training import PrivateTraining, RowLosses, Tally

    if isinstance(conf, CtganConf):
        adversary, tally = _adversary(replace(conf, gradients=mode)), Tally()
        batches = iter(adversary.private.loader)
        return lambda: adversary.private_step(next(batches)[0], tally)
    network: Any = registry.build(conf, _layout())
    losses, plan = RowLosses(network, network.row_loss, torch.Generator()), _plan(conf)
    training = PrivateTraining(losses, _rows(), plan, PrivacyEngine.of(plan), mode=mode)
    loader = iter(training.loader)

    def step() -> None:
        (batch,) = next(loader)
        training.step([lambda: training.module(batch)])

    return step


if __name__ == "__main__":
    main()
