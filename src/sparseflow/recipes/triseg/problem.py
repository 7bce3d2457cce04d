"""What a search works on: the network, its images, the ranges of its codes, and where to begin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sparseflow.compress.approximate import (
    CodeSpace,
    Evaluator,
    Histograms,
    RewardConfig,
    TmaxRule,
    layer_states,
    masks_named,
    optimal_codes,
    taps_for,
)
from sparseflow.compress.approximate.fisher import code_histograms
from sparseflow.compress.quantize import Site
from sparseflow.data import ImageSet
from sparseflow.data.splits import Splits, open_splits
from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.triseg.checkpoint import build_network, read_qat
from sparseflow.recipes.triseg.methods import Task
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.recipes.triseg.teacher import Teacher, load_teacher

__all__ = ["Problem", "device_named", "inputs_of", "pose", "remasked"]

# As the earlier project's documented run counted: 16 batches of 32.
_BATCH = 32
_SCORED_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A network whose codes are searched.

    Args:
        teacher: the network.
        sites: those of its sites that are approximated.
        splits: its images.
        histograms: counts and Fisher weights of the codes on images for calibration.
        space: the configurations.
        start: the exact optimum of the Fisher-weighted histograms, int64 `[L, 5]`.
        taps: sites whose maps are compared.
        reward: the reward.
        overflow: "pass", "clip" or "saturate".
    """

    teacher: Teacher
    sites: tuple[Site, ...]
    splits: Splits
    histograms: Histograms
    space: CodeSpace
    start: Tensor
    taps: tuple[str, ...]
    reward: RewardConfig
    overflow: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(site.name for site in self.sites)

    @property
    def states(self) -> Mapping[str, Sequence[float]]:
        """What a policy sees of each site."""
        return dict(zip(self.names, layer_states(self.histograms.counts).tolist(), strict=True))

    def task(self, config: SearchConfig) -> Task:
        """Return what a searcher is made for."""
        return Task(
            space=self.space,
            start=self.space.params(self.start),
            states=self.states,
            budget=config.episodes,
            seed=config.seed,
            lr=config.lr,
            update_timestep=config.update_timestep,
        )

    def evaluator(self, images: ImageSet, *, attention: bool = True, candidates: int | None = None) -> Evaluator:
        """Return what scores configurations on some images.

        Args:
            images: labelled images.
            attention: False leaves the attention loss out, as where accuracy alone is asked for.
            candidates: how many at a time; None fits them to the images.
        """
        device = next(self.teacher.net.buffers()).device
        return Evaluator(
            self.teacher.net,
            self.sites,
            inputs_of(self.teacher, images),
            images.labels.to(device),
            taps=self.taps,
            config=self.reward if attention else replace(self.reward, attention=0.0),
            mode=self.overflow,
            batch=_SCORED_AT_ONCE,
            candidates=candidates,
        )


def pose(config: SearchConfig, *, splits: Splits | None = None) -> Problem:
    """Load a network and its images, count its codes, and lay out the space of a search.

    Args:
        config: what is searched.
        splits: images already opened; None opens `config.data`.

    Raises:
        ConfigError: no such network, layers or device.
        DataError: no checkpoint, or images that cannot be read or do not fit.
    """
    device = device_named(config.device)
    teacher = load_teacher(config.model, config.out, device=device)
    parts = open_splits(config.data, seed=config.split_seed) if splits is None else splits
    sites = _chosen(teacher, config.layers)
    histograms = _count(config, teacher, sites, parts.calib, device)
    tops = config.tmax(histograms.counts)
    masks = masks_named(config.masks_name)
    space = CodeSpace(
        names=tuple(site.name for site in sites), tmax=tuple(tops.tolist()), masks=masks, reach=config.tmax_reach
    )
    problem = Problem(
        teacher=teacher,
        sites=sites,
        splits=parts,
        histograms=histograms,
        space=space,
        start=optimal_codes(histograms.fisher, tmax=tops, masks=masks, mode=config.overflow).codes,
        taps=taps_for(sites, model=teacher.name, names=config.attention_layers),
        reward=config.reward,
        overflow=config.overflow,
    )
    return _relaxed(problem, config) if config.tmax_shares else problem


def remasked(problem: Problem, masks: str) -> Problem:
    """Return a problem with other ranges of codes, and the start that they allow.

    Args:
        problem: the problem; itself where it has these ranges.
        masks: "relative" or "seed".

    Raises:
        ConfigError: no such ranges, or a tmax that leaves nothing to choose in them.
    """
    if problem.space.masks.name == masks:
        return problem
    space = replace(problem.space, masks=masks_named(masks))
    found = optimal_codes(
        problem.histograms.fisher, tmax=space.tmax, masks=space.masks, mode=problem.overflow
    )  # fmt: skip
    return replace(problem, space=space, start=found.codes)


def _relaxed(problem: Problem, config: SearchConfig) -> Problem:
    """Return a problem with the first tmax whose start loses no more than is allowed, or the last."""
    rules = [config.tmax, *(TmaxRule(percentile=share) for share in config.tmax_shares)]
    spaces = [replace(problem.space, tmax=tuple(rule(problem.histograms.counts).tolist())) for rule in rules]
    starts = [
        optimal_codes(problem.histograms.fisher, tmax=s.tmax, masks=s.masks, mode=problem.overflow).codes
        for s in spaces
    ]
    judge = problem.evaluator(problem.splits.val, attention=False)
    drops = 100 * (judge.teacher_accuracy - judge.score(torch.stack(starts)).accuracy)
    allowed = (i for i, drop in enumerate(drops.tolist()) if drop <= config.max_acc_drop)
    at = next(allowed, len(rules) - 1)
    return replace(problem, space=spaces[at], start=starts[at])


def inputs_of(teacher: Teacher, images: ImageSet) -> Tensor:
    """Return images as the network was trained to read them, on its device.

    Raises:
        DataError: they are of another shape.
    """
    if tuple(images.images.shape[1:]) != teacher.images.shape:
        raise DataError(
            f"{images.name} has images {tuple(images.images.shape[1:])}; {teacher.source} reads {teacher.images.shape}"
        )
    device = next(teacher.net.buffers()).device
    as_trained = replace(images, mean=teacher.images.mean, std=teacher.images.std)
    # On the CPU, whose divisions are the same everywhere.
    return as_trained.normalize(images.images).to(device)


def device_named(name: str) -> torch.device:
    """Return the device of a setting, "auto" for CUDA where there is one.

    Raises:
        ConfigError: it is CUDA, which torch does not see.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch sees no CUDA device; use 'cpu' or 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _chosen(teacher: Teacher, names: Sequence[str] | None) -> tuple[Site, ...]:
    if names is None:
        return teacher.sites
    unknown = [n for n in names if n not in teacher.names]
    if unknown or not names:
        raise ConfigError(
            f"{teacher.name} has no layers {', '.join(unknown) or '(none named)'}; there are {', '.join(teacher.names)}"
        )
    return tuple(site for site in teacher.sites if site.name in names)


def _count(
    config: SearchConfig, teacher: Teacher, sites: Sequence[Site], images: ImageSet, device: torch.device
) -> Histograms:
    """Count codes in the network's training form, which alone has gradients."""
    named = ":" in config.model and not config.model.endswith(".safetensors")
    found = read_qat(teacher.source, builder=partial(build_network, config.model) if named else None)
    some = images.take(min(len(images), _BATCH * config.calib_batches))
    x = inputs_of(teacher, some)
    points = {site.name: site.node for site in sites}
    batches = [x[i : i + _BATCH] for i in range(0, len(x), _BATCH)]
    # Sums of gradients that depend on the order of threads would make each start another one.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        return code_histograms(found.graph.to(device), points, batches, seed=config.split_seed)
