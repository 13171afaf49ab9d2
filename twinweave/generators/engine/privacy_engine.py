"""Opacus's `PrivacyEngine`, as a party trains by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import opacus
from numpy.typing import NDArray
from opacus.accountants.utils import get_noise_multiplier
from torch import nn, optim
from torch.utils.data import DataLoader

from twinweave.errors import ConfigError
from twinweave.generators.conf import GradientMode
from twinweave.generators.engine.accountant import NAME, LedgerAccountant
from twinweave.generators.engine.bookkeeping import GradSampleModuleBookKeeping
from twinweave.generators.engine.clipping import check_layer
from twinweave.generators.engine.ghost import GradSampleModuleGhost
from twinweave.generators.engine.hooks import GradSampleModuleExact
from twinweave.generators.engine.loader import PoissonLoader
from twinweave.generators.engine.optimizer import CryptographicOptimizer
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.parsing import check_positive

MODES: dict[GradientMode, Any] = {
    "bookkeeping": GradSampleModuleBookKeeping,
    "ghost": GradSampleModuleGhost,
    "hooks": GradSampleModuleExact,
    "functorch": GradSampleModuleExact,
}
"""What a module is wrapped in."""

_FIXED: dict[str, Any] = {
    "poisson_sampling": True,
    "clipping": "flat",
    "batch_first": True,
    "wrap_model": True,
    "rand_on_empty": False,
    "noise_generator": None,
}
"""Options of Opacus's `make_private` that have one value here."""


class PrivacyEngine(opacus.PrivacyEngine):  # type: ignore[misc]
    """Wraps module, optimiser and loader for DP-SGD whose every constant is public.

    Differs from Opacus's in three things. Sampling rate, expected batch and number of steps are
    given, where Opacus derives them from the number of rows (which one row more would change).
    Batches and noise come from a cryptographic stream. The accountant keeps our ledger's events,
    and refuses a step beyond the planned ones before its noise is drawn.

    sample_rate: probability of a row to be in a batch. expected_batch_size: rows; what a sum of
    gradients is divided by. steps: in all; one pass over the loader. source: of batches and
    noise, by default fresh from the operating system. Raises ConfigError.
    """

    def __init__(
        self,
        *,
        sample_rate: float,
        expected_batch_size: float,
        steps: int,
        source: RandomSource | None = None,
    ) -> None:
        self.sample_rate, self.steps = sample_rate, steps
        self.expected_batch_size = expected_batch_size
        check_positive("", self, "expected_batch_size", "steps")
        check_positive("", self, "sample_rate", most=1)
        self.source = source or RandomSource()
        self.accountant = LedgerAccountant(most=steps)
        self.secure_mode = True
        self.secure_rng = None
        self.dataset = None

    @classmethod
    def of(cls, plan: SgdPlan, source: RandomSource | None = None) -> PrivacyEngine:
        """The engine of one party's round."""
        return cls(
            sample_rate=plan.sampling_rate,
            expected_batch_size=plan.expected_batch,
            steps=plan.steps,
            source=source,
        )

    def make_private(
        self,
        *,
        module: nn.Module,
        optimizer: optim.Optimizer,
        data_loader: DataLoader[Any],
        noise_multiplier: float,
        max_grad_norm: float,
        grad_sample_mode: GradientMode = "bookkeeping",
        criterion: nn.Module | None = None,
        loss_reduction: str = "mean",
        active: NDArray[np.bool_] | None = None,
        **options: Any,
    ) -> tuple[Any, ...]:
        """(module, optimizer, data_loader) as Opacus gives them; with mode `ghost`, (module,
        optimizer, criterion, data_loader).

        The loader's own batch size and order do not matter: its rows come in Poisson batches.
        active: see `CryptographicOptimizer`. options: others of Opacus's, for the one value that
        they have here. Raises ConfigError for another, and for layers without exact gradients of
        each row; Opacus's UnsupportedModuleError for what else it knows to be wrong.
        """
        _check_options(options)
        self._check_parameters(module, optimizer)
        rows = self._prepare_model(
            module,
            max_grad_norm=max_grad_norm,
            loss_reduction=loss_reduction,
            grad_sample_mode=grad_sample_mode,
        )
        loader = PoissonLoader(
            data_loader, rate=self.sample_rate, steps=self.steps, source=self.source
        )
        private = CryptographicOptimizer(
            optimizer,
            rows=rows,
            source=self.source,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=self.expected_batch_size,
            loss_reduction=loss_reduction,
            active=active,
        )
        private.attach_step_hook(self.accountant.get_optimizer_hook_fn(self.sample_rate))
        if grad_sample_mode != "ghost":
            return rows, private, loader
        twice = self._prepare_criterion(
            module=rows,
            optimizer=private,
            criterion=criterion or nn.CrossEntropyLoss(reduction=loss_reduction),
            loss_reduction=loss_reduction,
        )
        return rows, private, twice, loader

    def make_private_with_epsilon(
        self, *, target_epsilon: float, target_delta: float, **others: Any
    ) -> tuple[Any, ...]:
        """`make_private` with the least noise for a budget that all planned steps keep to.

        Found by our accountant to within .01 of the epsilon, from below.
        """
        noise = get_noise_multiplier(
            target_epsilon=target_epsilon,
            target_delta=target_delta,
            sample_rate=self.sample_rate,
            steps=self.steps,
            accountant=NAME,
        )
        return self.make_private(noise_multiplier=noise, **others)

    def _prepare_model(
        self,
        module: nn.Module,
        *,
        max_grad_norm: float,
        loss_reduction: str,
        grad_sample_mode: GradientMode,
    ) -> Any:
        for layer in module.modules():
            check_layer(layer)
        self.validate(module=module, optimizer=None, data_loader=None)
        more: dict[str, Any] = {
            "functorch": {"force_functorch": True},
            "ghost": {"max_grad_norm": max_grad_norm},
        }
        wrap = MODES[grad_sample_mode]
        rows = wrap(module, loss_reduction=loss_reduction, **more.get(grad_sample_mode, {}))
        rows.forbid_grad_accumulation()
        return rows

    @staticmethod
    def _check_parameters(module: nn.Module, optimizer: optim.Optimizer) -> None:
        own = set(module.parameters())
        if not all(p in own for group in optimizer.param_groups for p in group["params"]):
            raise ConfigError("optimizer", "moves parameters of another module", "Give its own.")


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for a value that has no place here, TypeError for a name."""
    for name, value in options.items():
        if name not in _FIXED:
            raise TypeError(f"make_private() got an unexpected keyword argument {name!r}")
        if value != _FIXED[name]:
            raise ConfigError(name, f"is not offered as {value!r}", "Leave it out.")
