"""One step of training on fixed buffers, run as it is or replayed as one CUDA graph."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.data import ImageSet
from sparseflow.recipes.augment import augment
from sparseflow.recipes.graphed import Graphed
from sparseflow.recipes.triseg.config import TrainConfig

__all__ = ["Guide", "Step", "distilled", "layout_of", "shares"]

Guide = Callable[[Tensor], Tensor | None]
"""From images to the logits of a teacher; None while it has none."""


def layout_of(device: torch.device) -> torch.memory_format:
    """Return the layout of images in which a device convolves fastest."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def distilled(logits: Tensor, teacher: Tensor, t: float) -> Tensor:
    """Return T²·KL(softmax(teacher / T) ‖ softmax(logits / T)), the mean over the images.

    Args:
        logits: `[N, classes]` of the student.
        teacher: `[N, classes]`.
        t: temperature T.

    Source: Hinton et al., arXiv 1503.02531.
    """
    student, other = F.log_softmax(logits / t, 1), F.log_softmax(teacher / t, 1)
    return F.kl_div(student, other, reduction="batchmean", log_target=True) * t * t


def shares(height: int, width: int, *, mixup: float, cutmix: float = 0.0) -> Tensor:
    """Draw how much of each pixel an image keeps when it is mixed with another, from torch's generator on the host.

    λ ~ Beta(mixup, mixup). Either each pixel keeps λ, or those of a rectangle of the image's form keep nothing and all
    others everything; the rectangle lies about a random pixel, and covers 1 − λ of the image where it does not reach
    out of it.

    Args:
        height: of the images.
        width: of the images.
        mixup: the parameter of Beta.
        cutmix: the chance of a rectangle.

    Returns:
        float32 `[height, width]`, 0 to 1; its mean is the image's share of the label.

    Source: Zhang et al. (mixup), ICLR 2018; Yun et al. (CutMix), ICCV 2019.
    """
    own = float(torch.distributions.Beta(mixup, mixup).sample())
    keep = torch.full((height, width), own)
    if cutmix and float(torch.rand(())) < cutmix:
        keep.fill_(1.0)
        half = 0.5 * math.sqrt(1 - own)
        inside = []
        for side in (height, width):
            low = float(torch.rand(())) - half
            inside.append(slice(max(0, round(low * side)), max(0, round((low + 2 * half) * side))))
        keep[inside[0], inside[1]] = 0.0
    return keep


class Step:
    """Draws, changes and learns one batch; everything that differs from step to step lies in tensors on the device.

    Random numbers come from the device's default generator, which a graph advances as plain calls do, so that both
    ways of running see the same batches.

    Args:
        model: trained in place.
        config: how.
        images: to train on.
        optimizer: its rates are tensors on the device if `config.graph`.
        size: images a step.
        cast: what calls of the network are wrapped in.
        guide: what `config.kd_weight` of the loss learns from.
        extra: returns what is added to the loss, once model and guide have seen a batch.
        after: called after each step, as to move codes back into their order; reads nothing back.

    Attributes:
        calm: images are cropped and mirrored only.
        keep: float32 `[H, W]`, what each pixel keeps of its own image where `config.mixup` mixes two.
        sums: loss and share of right answers, summed over the steps since `restart`.
        steps: how many those are.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        images: ImageSet,
        optimizer: torch.optim.Optimizer,
        *,
        size: int,
        cast: Callable[[], Any],
        guide: Guide | None = None,
        extra: Callable[[], Tensor] | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        device = next(model.parameters()).device
        self.model, self.config, self.optimizer, self.cast = model, config, optimizer, cast
        self.guide, self.extra, self.after = guide, extra, after
        self.call: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False) if config.compile else model
        self.pixels, self.labels = images.images.to(device), images.labels.to(device)
        self.mean, self.std = (
            torch.tensor(v, device=device).view(1, -1, 1, 1) * 255 for v in (images.mean, images.std)
        )
        self.index = torch.zeros(size, dtype=torch.int64, device=device)
        self.keep = torch.ones(images.images.shape[-2:], device=device)
        self.sums = torch.zeros(2, device=device)
        self.steps, self.calm = 0, False
        self._go = self._recorder()
        is_cuda = device.type == "cuda"
        self.generator = torch.cuda.default_generators[device.index or 0] if is_cuda else torch.default_generator

    def restart(self, *, capture: bool = False) -> None:
        """Set the sums to zero; with `capture` the next step records its graph anew."""
        self.sums.zero_()
        self.steps = 0
        if capture:
            self._go = self._recorder()

    def _recorder(self) -> Callable[[], None]:
        return Graphed(self.run) if self.config.graph and self.index.is_cuda else self.run

    def order(self) -> list[Tensor]:
        """Return the images of each step of an epoch, in a new order; a smaller rest is left out."""
        device, size = self.labels.device, len(self.index)
        drawn = torch.randperm(len(self.labels), generator=self.generator, device=device)
        return list(torch.split(drawn[: len(drawn) - len(drawn) % size], size))

    def __call__(self, index: Tensor, rate: float) -> None:
        """Learn the images `index` at `rate` times the peak rate of each group of the optimizer.

        Raises:
            MeasurementError: the step cannot be recorded as a graph.
        """
        self.index.copy_(index)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * group["peak"])
            else:
                group["lr"] = rate * group["peak"]
        if self.config.mixup:
            # Drawn on the host: a graph repeats its numbers, but reads its buffers anew.
            height, width = self.keep.shape
            self.keep.copy_(shares(height, width, mixup=self.config.mixup, cutmix=self.config.cutmix))
        self.steps += 1
        self._go()

    def run(self) -> None:
        """Take the step in `index` now."""
        config = self.config
        with torch.no_grad():
            x, y = (self.pixels[self.index].float() - self.mean) / self.std, self.labels[self.index]
            x = augment(
                x, self.generator, crop_padding=config.crop_padding, flip=config.flip,
                degrees=0.0 if self.calm else config.degrees, erasing=0.0 if self.calm else config.erasing,
            )  # fmt: skip
            if config.mixup:
                x = torch.lerp(x.flip(0), x, self.keep)
            x = x.contiguous(memory_format=layout_of(x.device))
        with self.cast():
            logits = self.call(x).float()
            said = None if self.guide is None else self.guide(x)
        loss = F.cross_entropy(logits, y, label_smoothing=config.label_smoothing)
        if config.mixup:
            other = F.cross_entropy(logits, y.flip(0), label_smoothing=config.label_smoothing)
            loss = torch.lerp(other, loss, self.keep.mean())
        if said is not None:
            loss = torch.lerp(loss, distilled(logits, said.float(), config.kd_t), config.kd_weight)
        if self.extra is not None:
            loss = loss + self.extra()
        torch.autograd.backward(loss)
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        # At the end, so that a recording starts without gradients of the step before it.
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.sums += torch.stack([loss.detach(), (logits.argmax(1) == y).float().mean()])
        if self.after is not None:
            self.after()
