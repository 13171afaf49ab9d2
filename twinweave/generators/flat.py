"""Parameters as one flat vector, and Adam on it.

Noise, masks and updates are then single operations. No optimiser of `torch.optim` is built at the
parties: that loads the compiler, a second in every fresh process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinweave.errors import ConfigError

Arrays = dict[str, NDArray[np.float32]]

_EPSILON = 1e-8


def views(flat: Tensor, parameters: Iterable[nn.Parameter]) -> Iterator[Tensor]:
    """Consecutive parts of a flat vector in the shapes of the parameters."""
    start = 0
    for p in parameters:
        yield flat[start : start + p.numel()].view(p.shape)
        start += p.numel()


def flatten(parameters: Iterable[nn.Parameter]) -> NDArray[np.float32]:
    """Parameters, in order, as one float32 vector (a copy)."""
    parts = [p.detach().reshape(-1).cpu() for p in parameters]
    joined = torch.cat(parts) if parts else torch.empty(0)
    return np.array(joined.numpy(), dtype=np.float32)


def unflatten(parameters: Iterable[nn.Parameter], flat: NDArray[np.float32]) -> None:
    """Write a vector of `flatten` back into the parameters. Raises ConfigError on its length."""
    parameters = list(parameters)
    if flat.shape != (sum(p.numel() for p in parameters),):
        raise ConfigError("weights", "do not fit the network", "Use one configuration in a run.")
    source = torch.from_numpy(np.array(flat, dtype=np.float32))
    with torch.no_grad():
        for p, values in zip(parameters, views(source, parameters), strict=True):
            p.copy_(values)


class FlatAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) on parameters that become views of one buffer.

    Torch's own constructor is never called: see the head of this file.
    """

    def __init__(  # the base class's would load the compiler
        self,
        parameters: Sequence[nn.Parameter],
        *,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.defaults = {"lr": learning_rate, "betas": betas}
        self.param_groups = [{"params": list(parameters), **self.defaults}]
        self.state = defaultdict(dict)
        self.flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        for p, view in zip(parameters, views(self.flat, parameters), strict=True):
            p.data = view
        self._parameters = list(parameters)
        self._rate, self._betas = learning_rate, betas
        self._mean = torch.zeros_like(self.flat)
        self._square = torch.zeros_like(self.flat)
        self._steps = 0

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002
        for p in self._parameters:
            p.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move the parameters against their gradients; entries always at 0 never move."""
        gradient = torch.cat([_gradient(p).reshape(-1) for p in self._parameters])
        b1, b2 = self._betas
        self._steps += 1
        self._mean.lerp_(gradient, 1 - b1)
        self._square.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        scale = (self._square / (1 - b2**self._steps)).sqrt_().add_(_EPSILON)
        rate = self._rate / (1 - b1**self._steps)
        self.flat.addcdiv_(self._mean, scale, value=-rate)

    def moments(self) -> Arrays:
        """Moments and number of steps, for `restore`."""
        return {
            "steps": np.array([self._steps], dtype=np.float32),
            "mean": self._mean.cpu().numpy().copy(),
            "square": self._square.cpu().numpy().copy(),
        }

    def restore(self, moments: Arrays) -> None:
        """Go on from `moments()`; empty ones change nothing. Raises ConfigError."""
        if not moments:
            return
        if moments["mean"].shape != tuple(self._mean.shape):
            raise ConfigError("state", "is of another network", "Start the run anew.")
        self._steps = int(moments["steps"][0])
        self._mean.copy_(torch.from_numpy(moments["mean"].copy()))
        self._square.copy_(torch.from_numpy(moments["square"].copy()))


def _gradient(p: nn.Parameter) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad
