"""The training of one proxy: relative errors, and figures that never fall where more is kept."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import DataError
from sparseflow.hardware.proxy import LayerProxyModel, LayerSpec, tabulate
from sparseflow.hardware.proxy.features import LayerTable
from sparseflow.ir import Target

__all__ = ["SHARES", "calibrate", "probes", "rows", "train"]

SHARES = {
    "attn": ("keep_token", "keep_head"), "mlp": ("keep_token", "keep_channel"), "conv": ("keep_channel",),
    "patch_embed": ("keep_token",),
}  # fmt: skip
"""The shares that a layer of each kind may learn."""
_LEAST_SLOPE = 0.02


def rows(table: LayerTable, places: Tensor | slice) -> LayerTable:
    """Return some rows of a table."""
    return LayerTable(*(column[places] for column in table))


def probes(layers: Sequence[LayerSpec], target: Target, count: int, seed: int) -> tuple[LayerTable, LayerTable, Tensor]:
    """Return layers with a smaller and a larger share, and log of the ratio of the two `[count]`.

    Args:
        layers: where sizes are taken from.
        target: the device.
        count: how many pairs.
        seed: of the draw.
    """
    rng = random.Random(seed)
    fit = [s for s in layers if s.kind in SHARES]
    if not fit:
        raise DataError("no measured layer has a share that may be learned; measure attention, MLP or convolution")
    less, more, ratios = [], [], []
    for _ in range(count):
        layer = rng.choice(fit)
        shares: dict[str, Any] = {share: rng.uniform(0.2, 1.0) for share in SHARES[layer.kind]}
        share = rng.choice(SHARES[layer.kind])
        ratio = rng.choice((1.02, 1.1, 1.4))
        shares[share] /= ratio
        less.append(replace(layer, **shares))
        more.append(replace(layer, **{**shares, share: shares[share] * ratio}))
        ratios.append(ratio)
    return tabulate(less, target), tabulate(more, target), torch.tensor(ratios).log()


def train(
    model: LayerProxyModel, table: LayerTable, wanted: Tensor, pairs: tuple[LayerTable, LayerTable, Tensor] | None,
    *, steps: int, batch: int, lr: float, decay: float, seed: int,
) -> float:  # fmt: skip
    """Train all members at once, each on batches of its own, and return the last mean absolute log error.

    Args:
        model: has seen the features.
        table: layers.
        wanted: their figures `[n]`.
        pairs: of `probes`; None where a figure may fall as more is kept.
        steps: of AdamW.
        batch: layers of a step and member.
        lr: rate at the start; it falls to 0 along a cosine.
        decay: weight decay.
        seed: of the batches.
    """
    generator = torch.Generator().manual_seed(seed)
    target = wanted.float().log()
    members = model.weights[0].shape[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    last: list[Tensor] = []
    for step in range(steps):
        chosen = torch.randint(len(target), (members, batch), generator=generator)
        error = _of_each(model, table, chosen) - target[chosen]
        loss = torch.nn.functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.02)
        if pairs is not None:
            less, more, ratio = pairs
            some = torch.randint(len(ratio), (members, batch // 2), generator=generator)
            rise = _of_each(model, more, some) - _of_each(model, less, some)
            loss = loss + 2.0 * torch.relu(_LEAST_SLOPE * ratio[some] - rise).mean() / 0.1
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step >= steps - 20:
            last.append(error.detach().abs().mean())
    return float(torch.stack(last).mean())


def _of_each(model: LayerProxyModel, table: LayerTable, chosen: Tensor) -> Tensor:
    """Return log figures `[members, batch]`, each member on rows of its own."""
    return model.members(rows(table, chosen))


@torch.no_grad()
def calibrate(model: LayerProxyModel, table: LayerTable, wanted: Tensor, share: float = 0.9) -> None:
    """Widen the spread until `share` of these layers, which no member saw, lie within it."""
    found: Any = model.members(table)
    off = (found.mean(0) - wanted.float().log()).abs() / (0.01 + found.std(0))
    rank = min(1.0, share * (1 + 1 / len(off)))
    model.widen.copy_(torch.quantile(off, rank))
