"""Channel Mixup: every variate with a random share of another one, in what is seen and in what is asked for."""

import torch
from torch import Tensor

__all__ = ["channel_mixup"]


def channel_mixup(
    x: Tensor, y: Tensor, sigma: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return both mixed: X'_i = X_i + λ_{b,i} X_{π(i)}, one permutation π a batch, λ ~ N(0, σ²).

    The same λ and π serve inputs and answers, so that the answers stay true. Nothing is read back from the device.

    Args:
        x: `[B, V, L]`, seen.
        y: `[B, V, F]`, asked for.
        sigma: σ; 0 returns both as they are.
        generator: of the device; None for its default one.

    Source: Zeng et al., arXiv 2406.05316, section 4.4.
    """
    if not sigma:
        return x, y
    batch, variates = x.shape[:2]
    # An order of random numbers, as randperm may wait for the device, which a graph cannot record.
    other = torch.rand(variates, device=x.device, generator=generator).argsort()
    share = torch.randn(batch, variates, 1, device=x.device, generator=generator) * sigma
    return x + share * x[:, other], y + share * y[:, other]
