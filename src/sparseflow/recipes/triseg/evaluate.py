"""`sparseflow triseg eval`: measure a result anew, on images that nothing was chosen by."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparseflow.compress.approximate import Metrics, RewardConfig, TriSegResult, eval_report, taps_for
from sparseflow.compress.approximate.evaluator import Evaluator
from sparseflow.compress.approximate.result import FOLDER
from sparseflow.data import ImageSet
from sparseflow.data.splits import Splits, open_splits
from sparseflow.errors import ConfigError, DataError
from sparseflow.ir.files import write_atomic
from sparseflow.ops.triseg import tables
from sparseflow.recipes.triseg.problem import device_named, inputs_of
from sparseflow.recipes.triseg.weights import Weights, result_of, weights_of

__all__ = ["EvalConfig", "evaluate"]

_SPLITS = ("test", "val", "calib")
_AT_ONCE = 256
REPORT = "eval_report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """A result, and what it is measured on.

    Args:
        model: name of the zoo, `file.py:function`, or the path of a checkpoint.
        out: folder of the checkpoints and results.
        data: CIFAR-10, as `data.cifar10` takes it; None for the images that ship with sparseflow.
        config_path: the result; None for `result.json` in `tri_ppo_int_codes` below `out`.
        split: "test", "val" or "calib".
        attention: measure the reward too, not the accuracy alone.
        report: file for the report; None for `eval_report.json` beside the result.
        device: "auto", "cpu" or "cuda".
        split_seed: seed of the division of the images.

    Raises:
        ConfigError: no such split or device.
    """

    model: str = "vgg16"
    out: str = "outputs"
    data: str | None = None
    config_path: str | None = None
    split: str = "test"
    attention: bool = False
    report: str | None = None
    device: str = "auto"
    split_seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.split not in _SPLITS:
            raise ConfigError(f"split is {self.split!r}; expected one of {', '.join(_SPLITS)}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device is {self.device!r}; expected auto, cpu or cuda")

    @property
    def result_path(self) -> Path:
        """The result file."""
        return Path(self.out) / FOLDER / "result.json" if self.config_path is None else Path(self.config_path)


def evaluate(config: EvalConfig, *, splits: Splits | None = None) -> dict[str, Any]:
    """Measure a result and write `eval_report.json`, with the earlier project's keys.

    A file with other layers than the network's, or out of order, is refused before anything is measured. A fine-tuned
    result is measured with the weights that were trained with it, and held against the network that these started from.

    Args:
        config: what is measured.
        splits: images already opened; None opens `config.data`.

    Returns:
        The report's figures, and agreement, checkpoint, images and split; `kd`, `at` and `reward` if asked for.

    Raises:
        ConfigError: no such network or device.
        DataError: the checkpoint, the result or the images are missing or do not fit; names file and mend.
    """
    device = device_named(config.device)
    found = result_of(config.result_path, model=config.model, out=config.out)
    weights = weights_of(found, config.result_path, model=config.model, out=config.out, device=device)
    teacher = weights.teacher
    if weights.base is None:
        raise DataError(
            f"{teacher.source} is fine-tuned, and the network that it started from is not beside it; copy the"
            f" *_qat_preconvert.safetensors that train-qat wrote into {teacher.source.parent}"
        )
    sites = tuple(site for site in teacher.sites if site.name in found.layers)
    if unknown := [name for name in found.layers if name not in teacher.names]:
        raise DataError(
            f"{config.result_path}: layer {unknown[0]!r} is no site of {teacher.name!r}; there are"
            f" {', '.join(teacher.names)}"
        )
    if found.model != teacher.name:
        raise DataError(
            f"{config.result_path} is for model {found.model!r}, not {teacher.name!r}; name a file made for that"
        )
    parts = open_splits(config.data, seed=config.split_seed) if splits is None else splits
    images = parts.test.open("the accuracy of a result") if config.split == "test" else getattr(parts, config.split)
    assert isinstance(images, ImageSet)
    reward = RewardConfig() if config.attention else RewardConfig(attention=0.0)
    evaluator = Evaluator(
        teacher.net,
        sites,
        inputs_of(teacher, images),
        images.labels.to(device),
        taps=taps_for(sites, model=teacher.name) if config.attention else (),
        config=reward,
        mode=found.overflow,
        batch=_AT_ONCE,
    )
    scores = evaluator.score(found.codes([site.name for site in sites])[None])
    whole, same = 100 * evaluator.teacher_accuracy, 100 * float(scores.agreement)
    if weights.tuned:
        whole, same = _against(weights, found, images)
    metrics = Metrics.of(whole, 100 * float(scores.accuracy))
    path = config.result_path.parent / REPORT if config.report is None else Path(config.report)
    write_atomic(path, eval_report(found, config.result_path, metrics))
    body: dict[str, Any] = {
        "model": found.model,
        "config_path": str(config.result_path),
        "backend": found.backend,
        "acc_baseline": metrics.acc_teacher,
        "acc_modified": metrics.acc_student,
        "acc_drop": metrics.acc_drop,
        "selection": found.selection,
        "agreement": same,
        "checkpoint": str(teacher.source),
        "images": len(images),
        "split": config.split,
        "tuned": weights.tuned,
        "report": str(path),
    }
    if config.attention:
        body |= {"kd": float(scores.kd), "at": float(scores.at), "reward": float(scores.reward)}
    return body


@torch.no_grad()
def _against(weights: Weights, result: TriSegResult, images: ImageSet) -> tuple[float, float]:
    """Return the accuracy of what fine-tuning started from, and the share of answers that stayed, in percent."""
    base, student = weights.base, weights.teacher
    assert base is not None  # checked before
    points = {site.name: site.node for site in student.sites}
    rows = {
        points[name]: table[None]
        for name, table in zip(result.layers, tables(result.codes(), result.overflow), strict=True)
    }
    right = same = 0
    for x, y in zip(torch.split(inputs_of(base, images), _AT_ONCE), torch.split(images.labels, _AT_ONCE), strict=True):
        said = base.net(x).argmax(1)
        right += int((said.cpu() == y).sum())
        same += int((said == student.net(x, tables=rows).argmax(1)).sum())
    return 100 * right / len(images), 100 * same / len(images)
