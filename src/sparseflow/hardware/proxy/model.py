"""LayerProxyModel: an ensemble of small networks that turns a layer's features and bounds into one figure."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy.features import FEATURES, SEED_FEATURES, LayerTable

__all__ = ["FIGURES", "FORMS", "LayerProxyModel", "bound_of"]

FIGURES = ("lat_ms", "mem_mb", "power_w")
FORMS = ("bound", "spec")


def bound_of(figure: str, table: LayerTable) -> Tensor:
    """Return what a figure is learned beside, `[n]`: the roofline in ms, all tensors in MB, 1 W.

    Raises:
        ConfigError: unknown figure.
    """
    if figure == "lat_ms":
        return table.roofline_ms
    if figure == "mem_mb":
        return table.weight_mb + table.ends_mb + table.between_mb
    if figure == "power_w":
        return torch.ones_like(table.roofline_ms)
    raise ConfigError(f"figure is {figure!r}; expected one of {', '.join(FIGURES)}")


class LayerProxyModel(nn.Module):
    """Predict one figure of a layer from what no device can beat and what was learned beside it.

    With g the mean over the members of an MLP of the features, three hidden layers wide:

    * `lat_ms` = roofline_ms / u, u = exp(−softplus(g)), a utilisation in (0, 1);
    * `mem_mb` = weights + input and output + tensors between · exp(g);
    * `power_w` = low + (high − low)·σ(g), between the idle power and what the device may draw.

    Features that never changed in training count nothing, and others are held within the range that training saw:
    beyond it, utilisation stays and the bound alone moves.

    The form "spec" is the design's literal one: log of the figure is g itself, of the first thirteen features alone.

    Args:
        figure: one of `FIGURES`.
        members: networks.
        hidden: width of a hidden layer.
        form: "bound" or "spec".

    Raises:
        ConfigError: unknown figure or form.

    Source: the design's 3×128 MLPs; a bound over a learned utilisation as in NeuSight, ASPLOS 2025.
    """

    mean: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    bounds: Tensor
    widen: Tensor

    def __init__(self, figure: str, *, members: int = 3, hidden: int = 128, form: str = "bound") -> None:
        super().__init__()
        if figure not in FIGURES:
            raise ConfigError(f"figure is {figure!r}; expected one of {', '.join(FIGURES)}")
        if form not in FORMS:
            raise ConfigError(f"form is {form!r}; expected one of {', '.join(FORMS)}")
        self.figure, self.form = figure, form
        sizes = [len(FEATURES), hidden, hidden, hidden, 1]
        self.weights = nn.ParameterList(torch.randn(members, i, o) * (2.0 / i) ** 0.5 for i, o in pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for o in sizes[1:])
        for name, size in (
            ("mean", sizes[0]),
            ("scale", sizes[0]),
            ("low", sizes[0]),
            ("high", sizes[0]),
            ("bounds", 2),
        ):
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("widen", torch.ones(()))

    def look_at(self, features: Tensor, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
        """Learn mean, deviation and range of the features `[n, F]`, and take the bounds of the power."""
        x = features.float()
        deviation = x.std(0, correction=0)
        self.mean.copy_(x.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0))
        if self.form == "spec":
            self.scale[len(SEED_FEATURES) :] = 0.0
        self.low.copy_(x.amin(0))
        self.high.copy_(x.amax(0))
        self.bounds.copy_(torch.tensor(bounds))

    def members(self, table: LayerTable) -> Tensor:
        """Return log of the figure by each member, `[members, n]`, for layers that run for certain."""
        x = table.features.float()
        x = (torch.minimum(torch.maximum(x, self.low), self.high) - self.mean) * self.scale
        y = x.expand(self.weights[0].shape[0], -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = torch.baddbmm(bias, y, weight)
            y = F.silu(y) if i + 1 < len(self.weights) else y
        g = y.squeeze(-1)
        if self.form == "spec":
            return g
        if self.figure == "lat_ms":
            return torch.log(table.roofline_ms.float()) + F.softplus(g)
        if self.figure == "mem_mb":
            ends = (table.weight_mb + table.ends_mb).float()
            return torch.log(ends + _small(table.between_mb.float(), ends) * torch.exp(g))
        low, high = self.bounds
        return torch.log(low + (high - low) * torch.sigmoid(g))

    def forward(self, table: LayerTable) -> Tensor:
        """Return the figure `[n]`: the geometric mean of the members, by chance of running but for the power."""
        found = torch.exp(self.members(table).mean(0))
        return found if self.figure == "power_w" else found * table.keep.float()

    def spread(self, table: LayerTable) -> Tensor:
        """Return `[n]` factors f ≥ 1: nine in ten layers lie between figure / f and figure · f.

        What the members differ by, times what layers that no member had seen asked for.
        """
        return torch.exp(self.widen * (0.01 + self.members(table).std(0)))


def _small(between: Tensor, ends: Tensor) -> Tensor:
    # Work space of a layer without tensors between is small beside its ends, but not nothing.
    return between + 0.05 * ends
