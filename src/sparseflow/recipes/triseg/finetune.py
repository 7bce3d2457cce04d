"""Fine-tune a network whose activations take three codes: weights, values and thresholds together."""

import copy
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparseflow.compress.approximate import CODE_MAX, RELATIVE, Metrics, TriSegResult, optimal_codes
from sparseflow.compress.approximate.finetune import SegmentedNet, roomy
from sparseflow.compress.approximate.fisher import code_histograms
from sparseflow.compress.approximate.result import FOLDER
from sparseflow.compress.quantize import IntegerNet, freeze_bn, quantizers, to_integer
from sparseflow.compress.quantize.fake_quant import WeightFakeQuantize
from sparseflow.compress.quantize.qat import QuantLayer, set_enabled
from sparseflow.data import ImageSet
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import tables
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.triseg.checkpoint import QatNet, build_network, read_qat, save_qat
from sparseflow.recipes.triseg.config import FinetuneConfig
from sparseflow.recipes.triseg.fit import accuracy, fit
from sparseflow.recipes.triseg.step import Guide, layout_of
from sparseflow.recipes.triseg.teacher import find_qat
from sparseflow.recipes.triseg.train import description, splits_of, training_images

__all__ = ["FINETUNED", "finetune_seeds", "finetune_triseg", "start_codes", "student_accuracy"]

FINETUNED = "{model}_finetuned_{mode}_seed{seed}.safetensors"
# Histograms of more images find the same codes.
_CALIB_BATCH = 32
_HINT_SHARE = 4
_TINY = 1e-12
# Histograms are counted on the host, each of them for as long as dozens of steps on a GPU take.
_REFITS, _REFIT_BATCHES = 20, 8


def finetune_triseg(config: FinetuneConfig, *, progress: bool = True) -> dict[str, Any]:
    """Fine-tune, or go on, and write `{model}_finetuned_{mode}_seed{seed}.safetensors` and its result.

    The logits of the network before the change are learned too, or those of `config.teacher`, in either case without
    any rounding of activations. Dropout is off, as coarse codes are noise enough. On CUDA the network runs in bfloat16
    until `config.freeze_at`, and in TF32 from there on, unless `config.precision` says otherwise. The epoch is chosen
    on `val`, and the start stands if no epoch is better; test images are not read.

    Args:
        config: what to do.
        progress: show a progress bar.

    Returns:
        The record: files, codes, accuracies of the teacher and of the student before and after on `val`, settings,
        device, versions, commit.

    Raises:
        ConfigError: no such network or device, or the run in the folder has other settings.
        DataError: images, checkpoint, result or saved state cannot be read.
        MeasurementError: the loss is no longer finite.
    """
    began = time.perf_counter()
    device = device_of(config.device)
    splits = splits_of(config)
    train = training_images(config, splits)
    path = find_qat(config.model, config.out)
    found = _read(config.model, path)
    graph = found.graph.to(device=device, memory_format=layout_of(device))  # type: ignore[call-overload]
    teacher = to_integer(graph)
    points = {site.name: site.node for site in found.sites if site.node in teacher.points}
    mode = config.mode
    codes = start_codes(config, found, points, splits.calib, device)
    acc_teacher = accuracy(teacher, splits.val, device)
    acc_frozen = student_accuracy(teacher, points, codes, mode, splits.val, device)
    other = config.teacher
    plain = _unrounded(graph, device)
    hint = _Hint(graph, plain, list(points.values()), config.hint) if config.hint else None
    guide = _guide(plain)
    if other is not None:
        tells = _guide(_unrounded(_read(other, find_qat(other, config.out)).graph, device))
        guide = tells if hint is None else _after(guide, tells)
    net = SegmentedNet(graph, points, codes, mode=mode, window=config.window)
    net.real.requires_grad_(config.rule == "gradient")
    start = {key: value.detach().clone() for key, value in net.state_dict().items()}
    tuned = _Tuned(net, in_half=config.precision in ("auto", "bfloat16") and device.type == "cuda")
    dropouts = [(m, m.p) for m in graph.modules() if isinstance(m, nn.Dropout)]
    for m, _ in dropouts:
        m.p = 0.0
    if config.bn_frozen:
        freeze_bn(graph)
    saved = Path(config.out) / FINETUNED.format(model=config.name, mode=config.mode, seed=config.seed)
    result_file = config.result_file or f"{config.name}_finetuned_{config.mode}_seed{config.seed}.json"
    result_path = Path(config.out) / FOLDER / result_file

    def refit() -> None:
        some = _batches(splits.calib, device, min(config.calib_batches, _REFIT_BATCHES))
        seen = code_histograms(graph, points, some, seed=config.seed)
        net.refit(seen.counts if config.rule == "counts" else seen.fisher)

    phase = (True, False)

    def before_epoch(done: float) -> bool:
        nonlocal phase
        before, phase = phase, (done < config.code_share, done >= config.freeze_at)
        net.real.requires_grad_(phase[0] and config.rule == "gradient")
        for m in graph.modules():
            if isinstance(m, WeightFakeQuantize):
                m.observing = not phase[1]
        if phase[1]:
            freeze_bn(graph)
            tuned.in_half &= config.precision == "bfloat16"
        if phase[0] and config.rule != "gradient" and done * _REFITS > int(net.fits) * config.code_share:
            refit()
        return phase != before

    def write(val: float) -> dict[str, Any]:
        record = description(config, device, began) | {
            "codes": dict(zip(points, net.codes.tolist(), strict=True)),
            "overflow": mode,
            "acc_teacher": acc_teacher,
            "acc_frozen": acc_frozen,
            "acc_student": val,
            "val_images": len(splits.val),
            "from": str(path),
        }
        save_qat(
            saved, graph, model=found.model, arguments=found.arguments, images=found.images, record=record,
        )  # fmt: skip
        return record

    def keep(_: nn.Module, line: dict[str, Any]) -> None:
        write(line["val"])

    lines = fit(
        tuned, config, train, splits.val, codes=[net.real] if config.rule == "gradient" else [],
        code_lr=config.code_lr, guide=guide, extra=hint, before_epoch=before_epoch,
        after_step=net.settle, judge_start=True, kept=keep, progress=progress,
    )  # fmt: skip
    if hint is not None:
        hint.remove()
    for m in graph.modules():
        if isinstance(m, WeightFakeQuantize):
            m.observing = False
    student = student_accuracy(to_integer(graph), points, net.codes, mode, splits.val, device)
    is_better = student >= acc_frozen
    if not is_better:
        net.load_state_dict(start)
        student = acc_frozen
    net.release()
    for m, p in dropouts:
        m.p = p
    record = write(student)
    result = TriSegResult.of(
        tuple(points),
        net.codes,
        backend="fbgemm",
        model=config.name,
        selection=f"finetuned ({config.mode}, seed {config.seed}, {len(lines) if is_better else 0} epochs)",
        metrics=Metrics.of(100 * acc_teacher, 100 * student),
        overflow=mode,
        split="val",
    )
    result.write(result_path)
    return record | {"file": str(saved), "result": str(result_path), "epochs": len(lines), "history": lines}


def finetune_seeds(
    config: FinetuneConfig, seeds: Sequence[int] = (0, 1, 2), *, progress: bool = True
) -> dict[str, Any]:
    """Fine-tune once a seed, and return how far the drops of accuracy scatter.

    Args:
        config: what to do; its seed is replaced.
        seeds: of order, augmentation and dropout; the division of the images stays.
        progress: show progress bars.

    Returns:
        `drop_mean` and `drop_std` (of the sample; 0 for one seed) in points on `val`, and `records` by seed.

    Raises:
        ConfigError: no seed, or one twice; and as `finetune_triseg`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds are {list(seeds)}; expected at least one, and each once")
    if config.result_file is not None and len(seeds) > 1:
        raise ConfigError(f"result_file {config.result_file!r} would be written once a seed; leave it out")
    records = {seed: finetune_triseg(replace(config, seed=seed), progress=progress) for seed in seeds}
    drops = [100 * (record["acc_teacher"] - record["acc_student"]) for record in records.values()]
    return {
        "drop_mean": statistics.fmean(drops),
        "drop_std": statistics.stdev(drops) if len(drops) > 1 else 0.0,
        "records": records,
    }


def start_codes(
    config: FinetuneConfig, found: QatNet, points: dict[str, str], calib: ImageSet, device: torch.device
) -> Tensor:
    """Return the codes to start from: those of a search, or the optimum of the Fisher-weighted histograms.

    In mode "pass" tmax is that of `config.tmax`; else it is chosen too, and in mode "clip" only bounds v2.

    Args:
        config: names the result of the search, if there is one.
        found: the network.
        points: the quantiser of each site by its name.
        calib: images for the histograms.
        device: where the network is.

    Returns:
        Int64 `[L, 5]`.

    Raises:
        DataError: the result is missing or does not fit the network.
    """
    if config.config_path is not None:
        return TriSegResult.read(config.config_path, names=tuple(points), model=config.name).codes(tuple(points))
    batches = _batches(calib, device, config.calib_batches)
    histograms = code_histograms(found.graph, points, batches, seed=config.seed)
    if config.mode == "pass":
        return optimal_codes(histograms.fisher, tmax=config.tmax(histograms.counts)).codes
    codes = optimal_codes(histograms.fisher, mode=config.mode, tmax_range=(RELATIVE.least_tmax, CODE_MAX)).codes
    return roomy(codes) if config.mode == "clip" else codes


def student_accuracy(
    net: IntegerNet, points: dict[str, str], codes: Tensor, mode: str, images: ImageSet, device: torch.device
) -> float:
    """Return the accuracy of an integer network with the tables of one configuration.

    Args:
        net: without tables.
        points: the point of each site by its name, in the order of `codes`.
        codes: int64 `[L, 5]`.
        mode: "pass", "clip" or "saturate".
        images: the set.
        device: where the network is.
    """
    rows = dict(zip(points.values(), tables(codes, mode).to(device).unsqueeze(1), strict=True))
    return accuracy(_Student(net, rows), images, device)


def _batches(calib: ImageSet, device: torch.device, count: int) -> Iterator[Tensor]:
    return (x.to(device) for x, _ in islice(calib.batches(_CALIB_BATCH), count))


def _read(model: str, path: Path) -> QatNet:
    builder = (lambda **given: build_network(model, given)) if ":" in model else None
    return read_qat(path, builder=builder)


def _unrounded(graph: fx.GraphModule, device: torch.device) -> fx.GraphModule:
    """Return a copy for inference that rounds no activation, in bfloat16 on CUDA."""
    plain = copy.deepcopy(graph).eval().requires_grad_(False)
    set_enabled(plain, False)
    for m in plain.modules():
        if isinstance(m, QuantLayer) and isinstance(m.layer, nn.Conv2d) and m.bn is not None:
            m.layer, m.bn = nn.utils.fuse_conv_bn_eval(m.layer, m.bn), None
    # Weights are cast once here; autocast would cast them at every step.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return plain.to(device=device, dtype=dtype, memory_format=layout_of(device))  # type: ignore[call-overload,no-any-return]


def _guide(plain: fx.GraphModule) -> Guide:
    dtype = next(plain.parameters()).dtype

    def guide(x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            said: Tensor = plain(x.to(dtype))
            return said

    return guide


def _after(first: Guide, then: Guide) -> Guide:
    def guide(x: Tensor) -> Tensor | None:
        first(x)
        return then(x)

    return guide


class _Hint:
    """How far the maps of some points of a network are from those of another that saw the same batch.

    Of a batch the first quarter is compared: less noise is not worth the memory traffic of the rest.
    """

    def __init__(self, tuned: nn.Module, plain: nn.Module, points: Sequence[str], weight: float) -> None:
        self.weight = weight / len(points)
        self.maps: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}
        self.hooks = [
            known[point].register_forward_hook(partial(self._keep, maps, point))
            for known, maps in zip((quantizers(tuned), quantizers(plain)), self.maps, strict=True)
            for point in points
        ]

    @staticmethod
    def _keep(maps: dict[str, Tensor], point: str, _: nn.Module, __: Any, out: Tensor) -> None:
        maps[point] = out

    def __call__(self) -> Tensor:
        mine, theirs = self.maps
        parts = []
        for point, whole in theirs.items():
            some = max(1, len(whole) // _HINT_SHARE)
            other = whole[:some]
            apart = (mine[point][:some] - other).square().sum(dtype=torch.float32)
            parts.append(apart / other.square().sum(dtype=torch.float32).clamp(min=_TINY))
        for maps in self.maps:
            maps.clear()
        return self.weight * torch.stack(parts).sum()

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()


class _Tuned(nn.Module):
    """Trains in bfloat16 while `in_half`; is judged in float32: TF32 takes other codes between two."""

    def __init__(self, net: SegmentedNet, *, in_half: bool) -> None:
        super().__init__()
        self.net, self.in_half = net, in_half

    def forward(self, x: Tensor) -> Tensor:
        exact = nullcontext() if self.training else multiply_as("float32", x.device)
        with exact, torch.autocast(x.device.type, torch.bfloat16, enabled=self.in_half and self.training):
            logits: Tensor = self.net(x)
            return logits


class _Student(nn.Module):
    def __init__(self, net: IntegerNet, rows: dict[str, Tensor]) -> None:
        super().__init__()
        self.net, self.rows = net, rows

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x, tables=self.rows)
        return logits
