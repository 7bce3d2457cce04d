"""Histograms of the codes of a network in training form, with the weight that each code has for its output."""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, fx

from sparseflow.compress.approximate.histogram import Histograms
from sparseflow.compress.quantize import quantizers
from sparseflow.errors import ConfigError, DataError

__all__ = ["code_histograms"]


def code_histograms(
    qat: fx.GraphModule, points: Mapping[str, str], batches: Iterable[Tensor], *, seed: int = 0
) -> Histograms:
    """Count the codes of each site in eval mode, and weigh them by their Fisher information.

    The loss is the cross entropy with labels drawn from the network's own softmax, so that its squared gradients
    are an unbiased estimate of the Fisher information; with the true labels they would vanish on images that the
    network has learned. Gradients are taken with respect to codes, not to what they stand for.

    Args:
        qat: from `prepare_qat`, with gradients; left as it is.
        points: the quantiser of each site (`Site.node`) by the site's name.
        batches: normalised images `[N, C, H, W]` on the network's device.
        seed: seed of the labels.

    Returns:
        Counts and Fisher weights.

    Raises:
        ConfigError: no such point.
        DataError: no batch, or no gradient reaches a site.
    """
    known = quantizers(qat)
    if missing := [point for point in points.values() if point not in known]:
        raise ConfigError(f"the network rounds nothing at {', '.join(missing)}; there are {', '.join(known)}")
    found = Histograms(tuple(points))
    held: dict[str, Tensor] = {}

    def keep(name: str, codes: Tensor) -> Tensor:
        # Codes of a network whose weights are frozen have no gradient of their own.
        held[name] = codes if codes.requires_grad else codes.detach().requires_grad_()
        held[name].retain_grad()
        return held[name]

    before = {name: known[point].edit for name, point in points.items()}
    training = qat.training
    generator = torch.Generator().manual_seed(seed)
    seen = False
    try:
        qat.eval()
        for name, point in points.items():
            known[point].edit = partial(keep, name)
        for x in batches:
            seen = True
            with torch.enable_grad():
                log_p = torch.log_softmax(qat(x).float(), 1)
            drawn = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=generator).to(log_p.device)
            loss = -log_p.gather(1, drawn).sum()
            gradients = torch.autograd.grad(loss, list(held.values()), allow_unused=True)
            for (name, codes), gradient in zip(held.items(), gradients, strict=True):
                if gradient is None:
                    raise DataError(f"site {name!r}: its codes do not reach the logits; leave it out")
                found.add(name, codes, gradient)
    finally:
        for name, point in points.items():
            known[point].edit = before[name]
        qat.train(training)
    if not seen:
        raise DataError("no batch to count codes on; give at least one")
    return found
