"""Gates of heads, channels and blocks: a factor in [0, 1] each, learned, then closed or open for good."""

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError

__all__ = ["StructureGate"]


class StructureGate(nn.Module):
    """Factors w = σ(g / temperature) of D rows of n parts; parts that were closed have 0.

    Args:
        depth: rows D, one for each block.
        width: parts n of a row.
        keep: share of a row's parts that is to stay.
        init: logits g at the start; σ(3) = .95 leaves a network nearly as it was.

    >>> gate = StructureGate(1, 4, keep=0.5, init=3.0)
    >>> [round(w, 2) for w in gate()[0].tolist()]
    [0.95, 0.95, 0.95, 0.95]
    """

    open: Tensor
    temperature: Tensor

    def __init__(self, depth: int, width: int, *, keep: float, init: float) -> None:
        super().__init__()
        self.keep = keep
        self.logits = nn.Parameter(torch.full((depth, width), float(init)))
        self.register_buffer("open", torch.ones(depth, width))
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self) -> Tensor:
        """Return w `[D, n]` in float32."""
        return torch.sigmoid(self.logits.float() / self.temperature) * self.open

    @property
    def count(self) -> int:
        """Parts of a row that are to stay, at least 1."""
        return max(1, round(self.keep * self.logits.shape[1]))

    @torch.no_grad()
    def harden(self) -> Tensor:
        """Close all but the `count` largest of each row, in place; the others keep their factors.

        Returns:
            Which parts stay open, `[D, n]` of bool.
        """
        best = self().sort(dim=1, descending=True, stable=True).indices[:, : self.count]
        self.open.zero_().scatter_(1, best, 1.0)
        return self.open.bool()

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature; lower ones bring w nearer to 0 and 1.

        Raises:
            ConfigError: it is not above 0.
        """
        if not temperature > 0:
            raise ConfigError(f"temperature is {temperature!r}; expected a number above 0")
        self.temperature.fill_(temperature)
