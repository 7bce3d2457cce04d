"""One step of training a video transformer: parts of a batch one after the other, as it is or as one CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.nn.models.video_vit.cost import block_flops
from sparseflow.recipes.graphed import Graphed
from sparseflow.recipes.ranks import ALONE, Ranks
from sparseflow.recipes.video.sources import Source

__all__ = ["SUMS", "Step", "make_adamw"]

SUMS = ("loss", "loss_ast", "flops", "top1", "keep_token", "keep_head", "keep_ch", "keep_block")
"""What a step sums up."""


def make_adamw(model: nn.Module, *, weight_decay: float, graph: bool, gates: float = 1.0) -> torch.optim.AdamW:
    """Return AdamW that decays matrices alone; on CUDA fused, and with a rate that a graph reads anew.

    A group's "times" is the factor of its rate.

    Args:
        model: its parameters are trained.
        weight_decay: of parameters of two dimensions and more, which tables of positions are not counted among.
        graph: whether steps are recorded.
        gates: factor of the rate for logits of gates, which have a longer way than weights.
    """
    logits: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        if name.endswith("logits"):
            logits.append(p)
        else:
            (decayed if p.ndim > 1 and not name.endswith(("_embed", "cls_token")) else others).append(p)
    device = next(model.parameters()).device
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay, "times": 1.0},
        {"params": others, "weight_decay": 0.0, "times": 1.0},
    ]
    if logits:
        groups.append({"params": logits, "weight_decay": 0.0, "times": gates})
    if device.type != "cuda":
        return torch.optim.AdamW(groups, lr=1.0)
    for group in groups:
        group["lr"] = torch.tensor(1.0, device=device) if graph else 1.0
    return torch.optim.AdamW(groups, fused=True, capturable=graph)


class Step:
    """Learns a batch: mean cross entropy + weight · the pruner's loss + hardware · operations over the dense network's.

    Args:
        model: trained in place; returns logits and info with `return_intermediate`.
        source: scales the clips.
        optimizer: see `make_adamw`.
        parts: into which the batch is divided.
        weight: of the pruner's loss.
        hardware: weight of the operations.
        smoothing: of the labels.
        clip: largest norm of the gradients; 0 for any.
        cast: what calls of the network are wrapped in.
        graph: replay steps, on CUDA, of a process alone.
        ranks: the processes that share each step.

    Attributes:
        sums: the sums of `SUMS` over the steps since `restart`, on the device.
        steps: how many those are.
    """

    def __init__(
        self,
        model: VideoViT,
        source: Source,
        optimizer: torch.optim.Optimizer,
        *,
        parts: int,
        weight: float,
        hardware: float = 0.0,
        smoothing: float,
        clip: float,
        cast: Callable[[], Any],
        graph: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.device = next(model.parameters()).device
        self.model, self.source, self.optimizer, self.ranks = ranks.wrap(model), source, optimizer, ranks
        self.dense = sum(block_flops(model.args, i, model.args.tokens) for i in range(model.args.depth))
        self.hardware, self.parts, self.weight, self.smoothing, self.clip, self.cast = (
            hardware, parts, weight, smoothing, clip, cast
        )  # fmt: skip
        self.weights = list(model.parameters())
        self.sums, self.steps = torch.zeros(len(SUMS), device=self.device), 0
        self.recorded = graph and self.device.type == "cuda" and ranks.count == 1
        self.pruner = model.pruner
        self._go: Graphed | None = None
        self._idle = False
        self._clips: Tensor | None = None
        self._labels: Tensor | None = None

    def restart(self) -> None:
        """Set the sums to zero."""
        self.sums.zero_()
        self.steps = 0

    def __call__(self, clips: Tensor, labels: Tensor, rate: float) -> None:
        """Learn a batch at a learning rate.

        Raises:
            MeasurementError: the step cannot be recorded as a graph.
        """
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * group.get("times", 1.0))
            else:
                group["lr"] = rate * group.get("times", 1.0)
        self.steps += 1
        if not self.recorded:
            self._learn(clips, labels)
            return
        idle = self.pruner is not None and self.pruner.idle
        if self._go is None or idle != self._idle:
            # A graph has the counts of tokens of its recording.
            self._go, self._idle = Graphed(self._run), idle
        # A graph reads the tensors of its recording.
        if self._clips is None or self._labels is None:
            self._clips, self._labels = clips.clone(), labels.clone()
        self._clips.copy_(clips)
        self._labels.copy_(labels)
        self._go()

    def _run(self) -> None:
        assert self._clips is not None
        assert self._labels is not None
        self._learn(self._clips, self._labels)

    def _learn(self, clips: Tensor, labels: Tensor) -> None:
        for x, y in zip(clips.chunk(self.parts), labels.chunk(self.parts), strict=True):
            with self.cast():
                logits, info = self.model(self.source.scale(x), return_intermediate=True)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=self.smoothing)
            # A sum on this device, also where there was nothing to sum.
            pruning = torch.zeros((), device=self.device) + info["L_AST"].float()
            flops = info["flops"].float().sum() / self.dense
            self.ranks.backward((loss + self.weight * pruning + self.hardware * flops) / self.parts)
            with torch.no_grad():
                right = (logits.argmax(1) == y).float().mean()
                keeps = [1 - info["ast_stats"][f"sparsity_{n.removeprefix('keep_')}"].float().mean() for n in SUMS[4:]]
                self.sums += torch.stack([loss.detach(), pruning.detach(), flops.detach(), right, *keeps]) / self.parts
        if self.clip:
            nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimizer.step()
        # At the end, so that a recording starts without gradients of the step before it.
        self.optimizer.zero_grad(set_to_none=True)
