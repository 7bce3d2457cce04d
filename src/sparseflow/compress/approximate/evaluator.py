"""Scores of configurations on fixed images: many at a time, and one by one as the slow reference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from sparseflow.compress.approximate.attention import TeacherMap, attention_loss
from sparseflow.compress.approximate.candidates import CandidateNet, Shared
from sparseflow.compress.approximate.codes import CODE_MAX, check_codes
from sparseflow.compress.approximate.reward import RewardConfig, distillation
from sparseflow.compress.quantize import IntegerNet, Site, dequantize
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import CODES, tables
from sparseflow.ops.triseg.maps import check_mode

__all__ = ["Evaluator", "Scores", "reference_scores"]

_AT_ONCE = {"cpu": (1024, 2**26), "cuda": (16384, 2**30)}
"""Images of all candidates at a time, and codes of their largest layer: what fits caches, or fills a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What configurations are worth, float64 `[K]` each.

    Args:
        kd: distillation loss, T²·KL, mean over the images.
        at: attention loss, mean over layers and images.
        reward: −kd − weight·at.
        agreement: share of the images whose class is the teacher's.
        accuracy: share of the images whose class is right; NaN without labels.
    """

    kd: Tensor
    at: Tensor
    reward: Tensor
    agreement: Tensor
    accuracy: Tensor

    def __len__(self) -> int:
        """Return the number of configurations."""
        return len(self.reward)

    def __getitem__(self, index: Tensor) -> "Scores":
        """Return some of them."""
        return Scores(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, slots=True)
class _Batch:
    shared: Shared
    teacher: Tensor
    maps: dict[str, TeacherMap]
    labels: Tensor | None


class Evaluator:
    """Scores configurations against the same network without tables, always on the same images.

    The teacher's logits and maps and whatever lies in front of the first site are computed once. A score is the mean
    over the images, so that it depends neither on how they are batched nor on which candidates stand beside it: a
    configuration always gets the same score, and one asked for again is not computed again.

    Args:
        net: the network, on the device that shall compute.
        sites: its sites that get tables, in order.
        images: normalised `[N, C, H, W]`.
        labels: `[N]`, or None.
        taps: names of the sites whose maps are compared; none where the weight of attention is 0.
        config: the reward.
        mode: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax.
        batch: images at a time.
        candidates: candidates at a time; None fits them to the batch.
        share: as of `CandidateNet`.

    Raises:
        ConfigError: sites or taps that do not fit, or no such mode.
        DataError: no images, or another number of labels.
    """

    def __init__(
        self,
        net: IntegerNet,
        sites: Sequence[Site],
        images: Tensor,
        labels: Tensor | None = None,
        *,
        taps: Sequence[str] = (),
        config: RewardConfig | None = None,
        mode: str = "pass",
        batch: int = 256,
        candidates: int | None = None,
        share: bool = True,
    ) -> None:
        check_mode("mode", mode)
        if not len(images) or (labels is not None and len(labels) != len(images)):
            raise DataError(f"{len(images)} images with {0 if labels is None else len(labels)} labels to score on")
        if batch < 1 or (candidates is not None and candidates < 1):
            raise ConfigError(f"batch is {batch} and candidates {candidates}; expected at least 1 of each")
        self.config, self.mode, self.sites = config or RewardConfig(), mode, tuple(sites)
        self.names = tuple(site.name for site in sites)
        self.taps = tuple(taps) if self.config.attention else ()
        if missing := [name for name in self.taps if name not in self.names]:
            raise ConfigError(f"no site {', '.join(missing)} to compare; there are {', '.join(self.names)}")
        nodes = {site.name: site.node for site in sites}
        self._tapped = {nodes[name]: name for name in self.taps}
        self._net = CandidateNet(net, [site.node for site in sites], taps=list(self._tapped), share=share)
        self._device = images.device
        size = min(batch, len(images))
        self._at_once = candidates or self._fitting(size)
        self._batches = [
            self._prepare(images[i : i + size], None if labels is None else labels[i : i + size])
            for i in range(0, len(images), size)
        ]
        self.images = len(images)
        self.teacher_accuracy = self._teacher_accuracy()
        self._known: dict[bytes, Tensor] = {}

    def score(self, codes: Tensor) -> Scores:
        """Return the scores of configurations.

        Args:
            codes: int64 `[K, L, 5]`.

        Raises:
            ConfigError: codes out of order, or for other sites.
        """
        check_codes(codes, names=self.names)
        if codes.ndim != 3:
            raise ConfigError(f"codes have shape {tuple(codes.shape)}; expected [K, L, 5]")
        self._refuse_wide(codes)
        keys = [bytes(row) for row in codes.cpu().flatten(1).to(torch.uint8).numpy()]
        # In ascending order neighbours begin alike, so that they share layers.
        fresh = sorted({key: k for k, key in enumerate(keys) if key not in self._known}.items())
        for i in range(0, len(fresh), self._at_once):
            some = fresh[i : i + self._at_once]
            found = self._compute(codes[[k for _, k in some]]).cpu()
            self._known.update(zip([key for key, _ in some], found, strict=True))
        rows = torch.stack([self._known[key] for key in keys]) if keys else torch.zeros(0, 4, dtype=torch.float64)
        kd, at, agreement, accuracy = rows.unbind(1)
        return Scores(kd=kd, at=at, reward=self.config.combine(kd, at), agreement=agreement, accuracy=accuracy)

    def _refuse_wide(self, codes: Tensor) -> None:
        """Refuse values for which the sums of the next layer are not known to be exact."""
        wide = (codes[..., 1:4:2] > CODE_MAX).any(-1)
        if bool(wide.any()):
            k, at = torch.nonzero(wide)[0].tolist()
            v1, v2 = codes[k, at, 1].item(), codes[k, at, 3].item()
            raise ConfigError(f"site {self.names[at]}: v1 is {v1}, v2 is {v2}; layers take codes up to {CODE_MAX}")

    def forget(self) -> None:
        """Compute every configuration anew from now on, as when speed is measured."""
        self._known.clear()

    def _fitting(self, size: int) -> int:
        images, codes = _AT_ONCE.get(self._device.type, _AT_ONCE["cpu"])
        largest = max(math.prod(point.shape[1:]) for point in self._net.net.points.values())
        return max(1, min(images, codes // max(1, largest)) // size)

    def _prepare(self, images: Tensor, labels: Tensor | None) -> _Batch:
        shared = self._net.begin(images)
        maps: dict[str, TeacherMap] = {}

        def keep(node: str, codes: Tensor, _: Tensor | None) -> None:
            spec = self._net.net.points[node].spec
            if spec.zero_point:
                raise ConfigError(f"site {self._tapped[node]!r} has zero point {spec.zero_point}; compare others")
            maps[node] = TeacherMap(codes, spec.scale, self.config.weights, largest=spec.qmax)

        same = torch.arange(CODES, dtype=torch.uint8).repeat(1, len(self.sites), 1)
        teacher = self._net.run(shared, same, keep)[0]
        return _Batch(shared, teacher, maps, labels)

    def _compute(self, codes: Tensor) -> Tensor:
        """Return kd, at, agreement and accuracy, float64 `[K, 4]`."""
        rows = tables(codes.cpu(), self.mode)
        total = torch.zeros(len(codes), 4, dtype=torch.float64, device=self._device)
        for batch in self._batches:
            total += self._sums(batch, rows)
        return total / self.images

    def _sums(self, batch: _Batch, rows: Tensor) -> Tensor:
        at = torch.zeros(len(rows), dtype=torch.float64, device=self._device)

        def compare(node: str, codes: Tensor, of_candidates: Tensor | None) -> None:
            losses = batch.maps[node].loss(codes).sum(1)
            at.add_(losses if of_candidates is None else losses[of_candidates])

        logits = self._net.run(batch.shared, rows, compare)
        kd = distillation(logits, batch.teacher, self.config.temperature).sum(1)
        chosen = logits.argmax(-1)
        agreed = (chosen == batch.teacher.argmax(-1)).double().sum(1)
        right = torch.full_like(agreed, float("nan"))
        if batch.labels is not None:
            right = (chosen == batch.labels).double().sum(1)
        return torch.stack((kd, at / max(1, len(self.taps)), agreed, right), 1)

    def _teacher_accuracy(self) -> float:
        right = [(b.teacher.argmax(-1) == b.labels).sum() for b in self._batches if b.labels is not None]
        return float(sum(right)) / self.images if right else float("nan")


@torch.no_grad()
def reference_scores(
    net: IntegerNet,
    sites: Sequence[Site],
    images: Tensor,
    codes: Tensor,
    labels: Tensor | None = None,
    *,
    taps: Sequence[str] = (),
    config: RewardConfig | None = None,
    mode: str = "pass",
) -> Scores:
    """Return the scores one by one: teacher and student run whole for each configuration, losses as defined.

    Args:
        net: the network.
        sites: its sites that get tables.
        images: normalised `[N, C, H, W]`.
        codes: int64 `[K, L, 5]`.
        labels: `[N]`, or None.
        taps: names of the sites whose maps are compared.
        config: the reward.
        mode: "pass", "clip" or "saturate".
    """
    config = config or RewardConfig()
    nodes = {site.name: site.node for site in sites}
    points = tuple(nodes[name] for name in taps) if config.attention else ()
    found: list[list[float]] = []
    for one in codes:
        maps: dict[str, Tensor] = {}
        before = net.codes(images, points=points)
        teacher = net(images)
        edits = {p: partial(maps.setdefault, p) for p in points}
        rows = tables(one, mode).to(images.device)
        student = net(images, edits=edits, tables={s.node: t[None] for s, t in zip(sites, rows, strict=True)})
        attention = [
            attention_loss(dequantize(maps[p], spec), dequantize(before[p], spec), config.weights).mean()
            for p in points
            for spec in (net.points[p].spec,)
        ]
        agreed = (student.argmax(-1) == teacher.argmax(-1)).double().mean()
        right = float("nan") if labels is None else float((student.argmax(-1) == labels).double().mean())
        answers = float(distillation(student, teacher, config.temperature).mean())
        found.append([answers, float(sum(attention)) / max(1, len(attention)), float(agreed), right])
    kd, at, agreement, accuracy = torch.tensor(found, dtype=torch.float64).view(-1, 4).unbind(1)
    return Scores(kd=kd, at=at, reward=config.combine(kd, at), agreement=agreement, accuracy=accuracy)
