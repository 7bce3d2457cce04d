"""Entropies of tokens over windows of time and groups of patches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import run
from sparseflow.ops.lif import on_triton
from sparseflow.ops.window_entropy import reference
from sparseflow.ops.window_entropy.space import OP

__all__ = ["OP", "fused", "window_entropy"]

_LARGEST = 32768


def window_entropy(
    x: Tensor,
    windows: Sequence[tuple[int, int]],
    members: Tensor,
    *,
    tau: float = 1.0,
    standardize: bool = True,
    kernel: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return how mixed tokens are over windows of time and over groups of patches.

    p = softmax_C(x / τ), x brought to mean 0 and deviation 1 over C before if asked; h(q) = −Σ_c q·log(q + 1e-6).
    Over windows h(mean_{a ≤ t < b} p[t, n]); over groups h(Σ_n members[g, n]·p[t, n]). At least in float32.

    Args:
        x: `[B, T, N, C]`, any float type.
        windows: W windows [a, b) of times, none empty; at least one.
        members: float32 `[G, N]`, 1 / size at the patches of a group and 0 elsewhere; groups may overlap.
        tau: temperature.
        standardize: whether to standardise.
        kernel: "dense", "triton", or "auto" for the fastest that runs; only "dense" has a gradient, so that "auto" is
            it where one is wanted.

    Returns:
        `[B, W, N]` and `[B, T, G]`, float64 for such x, else float32.

    Raises:
        ConfigError: operands of other shapes, a window that is empty or out of range, or no such kernel.
        UnsupportedError: the named kernel does not take these operands; says why.

    Cost: about (12 + 4·W/T + 2·G) flops for each of B·T·N·C numbers, which are read twice.
    Source: ours.

    >>> time, space = window_entropy(torch.zeros(1, 2, 1, 2), [(0, 2)], torch.ones(1, 1))
    >>> time, space
    (tensor([[[0.6931]]]), tensor([[[0.6931],
             [0.6931]]]))
    """
    _check(x, windows, members, kernel)
    reason = _refusal(x)
    if kernel == "triton" and reason is not None:
        raise UnsupportedError(f"window_entropy: kernel 'triton' cannot run: {reason}")
    if kernel != "dense" and reason is None:
        flat = [t for window in windows for t in window]
        found: tuple[Tensor, Tensor] = run(_entropies, x, flat, members, float(tau), standardize)
        return found
    p = reference.distributions(x, tau, standardize)
    groups = reference.over_groups(p, members) if len(members) else p.new_zeros(*x.shape[:2], 0)
    return reference.over_windows(p, windows), groups


def _check(x: Tensor, windows: Sequence[tuple[int, int]], members: Tensor, kernel: str) -> None:
    if kernel not in ("auto", "dense", "triton"):
        raise ConfigError(f"window_entropy: kernel is {kernel!r}; expected 'auto', 'dense' or 'triton'")
    if x.ndim != 4 or not x.dtype.is_floating_point:
        raise ConfigError(f"window_entropy: x is {x.dtype} of shape {list(x.shape)}; expected floats [B, T, N, C]")
    if members.ndim != 2 or members.shape[1] != x.shape[2] or members.dtype not in (torch.float32, torch.float64):
        raise ConfigError(
            f"window_entropy: members is {members.dtype} of shape {list(members.shape)}; expected torch.float32 "
            f"[G, {x.shape[2]}]"
        )
    bad = [w for w in windows if not 0 <= w[0] < w[1] <= x.shape[1]]
    if bad or not windows:
        raise ConfigError(f"window_entropy: windows are {bad or 'none'}; expected [a, b) within {x.shape[1]} times")


def fused(x: Tensor) -> bool:
    """Tell whether "auto" is the fused kernel for these features."""
    return _refusal(x) is None


def _refusal(x: Tensor) -> str | None:
    if torch.is_grad_enabled() and x.requires_grad:
        return "it has no gradient, and x wants one"
    if not on_triton(x):
        return f"takes CUDA tensors up to float32, and Triton must be installed; x is {x.dtype} on {x.device}"
    rows, width = (1 << (n - 1).bit_length() for n in (x.shape[1], x.shape[3]))
    if rows * width > _LARGEST or x.numel() == 0:
        return f"holds 1 to {_LARGEST} numbers of a patch over all times; x has shape {list(x.shape)}"
    return None


@torch.library.custom_op("sparseflow::window_entropy", mutates_args=())
def _entropies(
    x: Tensor, windows: Sequence[int], members: Tensor, tau: float, standardize: bool
) -> tuple[Tensor, Tensor]:
    from sparseflow.ops.window_entropy import triton

    pairs = list(zip(windows[::2], windows[1::2], strict=True))
    return triton.forward(x, pairs, members, tau, standardize)


@_entropies.register_fake
def _(x: Tensor, windows: Sequence[int], members: Tensor, tau: float, standardize: bool) -> tuple[Tensor, Tensor]:
    batch, times, patches, _ = x.shape
    real = x.new_empty(batch, len(windows) // 2, patches, dtype=torch.float32)
    return real, x.new_empty(batch, times, members.shape[0], dtype=torch.float32)
