"""The party's own randomness for private training: sampling, Gaussian noise, throwaway seeds.

One AES-256-CTR stream keyed by the operating system. torch's CPU generator keeps 32 bits of
its seed and would let the noise be searched, so it never draws anything a guarantee needs.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_KEY_BYTES = 32
_ROWS_AT_ONCE = 1 << 20
_MANTISSA = 2.0**-53


class RandomSource:
    """Cryptographic stream of random words.

    key: 32 bytes, for tests alone; by default fresh from the operating system.

    Gaussians are Box-Muller in floating point, exact to about 1e-7 relative and reaching 8.5
    standard deviations. They are the one floating-point noise of the project: the low-order
    bits of a noisy gradient are not covered by the accounting (Mironov 2012).
    """

    def __init__(self, key: bytes | None = None) -> None:
        key = os.urandom(_KEY_BYTES) if key is None else key
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "RandomSource()"

    def words(self, n: int) -> NDArray[np.uint64]:
        """n uniform 64-bit words."""
        return np.frombuffer(self._stream.update(bytes(8 * n)), dtype=np.uint64)

    def normal(self, n: int) -> torch.Tensor:
        """n independent standard normals, float32, on the CPU."""
        import torch

        half = (n + 1) // 2
        bits = (self.words(2 * half) >> np.uint64(11)).astype(np.float64)
        uniform = torch.from_numpy(bits).mul_(_MANTISSA)
        radius = uniform[:half].add_(_MANTISSA / 2).log_().mul_(-2).sqrt_().float()
        angle = uniform[half:].mul_(2 * math.pi).float()
        return torch.cat([radius * angle.cos(), radius * angle.sin()])[:n]

    def poisson_sample(self, n: int, rate: float) -> NDArray[np.int64]:
        """Each of 0..n-1 kept independently with probability `rate` (to within 2**-53)."""
        if rate >= 1:
            return np.arange(n)
        threshold = np.uint64(int(rate * 2.0**64))
        kept = [
            start + np.flatnonzero(self.words(min(_ROWS_AT_ONCE, n - start)) < threshold)
            for start in range(0, n, _ROWS_AT_ONCE)
        ]
        return np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)

    def torch_generator(self, device: str = "cpu") -> torch.Generator:
        """A generator for what guards nothing: latent noise, initial discriminators."""
        import torch

        return torch.Generator(device=device).manual_seed(int(self.words(1)[0] >> np.uint64(1)))
