"""The loss that brings what is kept to its targets."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["KINDS", "ast_loss", "binary_loss"]

KINDS = ("token", "head", "ch", "block")


def ast_loss(
    sparsity: Mapping[str, Any], targets: Mapping[str, float], weights: Mapping[str, float], form: str
) -> Tensor:
    """Return L_AST of the sparsities 1 − mean(w) of the kinds of gates.

    "tracking": Σ λ·(keep − ρ)², keep = 1 − sparsity. "spec": Σ λ·sparsity, the literal formula; as it is minimised, it
    rewards density.

    Args:
        sparsity: by kind, tensors without dimensions or numbers.
        targets: ρ by kind; kinds without a target have no gate and do not count.
        weights: λ by kind.
        form: "tracking" or "spec".

    >>> ast_loss({"token": 0.25}, {"token": 0.5}, {"token": 1.0}, "tracking")
    tensor(0.0625)
    """
    given = [s for s in sparsity.values() if isinstance(s, Tensor)]
    # On the device of what is given, so that a step of training can be recorded as a graph.
    total = given[0].new_zeros(()) if given else torch.zeros(())
    for kind, target in targets.items():
        value = sparsity[kind]
        total = total + weights[kind] * (value if form == "spec" else (1 - value - target) ** 2)
    return total


def binary_loss(w: Tensor) -> Tensor:
    """Return mean 4·w·(1 − w): 1 where factors are undecided, 0 where each is 0 or 1.

    >>> binary_loss(torch.tensor([0.0, 1.0, 0.5, 0.5]))
    tensor(0.5000)
    """
    return (4 * w * (1 - w)).mean()
