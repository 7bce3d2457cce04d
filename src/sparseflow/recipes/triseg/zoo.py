"""`sparseflow triseg zoo`: the whole way from nothing to an exported network, for many networks by the same calls."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sparseflow.compress.approximate import cost_of
from sparseflow.compress.quantize import IntegerNet
from sparseflow.compress.quantize.integer_ops import IntegerSum
from sparseflow.data.splits import Splits, open_splits
from sparseflow.errors import ConfigError, DataError, SparseFlowError
from sparseflow.nn import models
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.triseg.checkpoint import network_name
from sparseflow.recipes.triseg.config import QatConfig, TrainConfig, check_choice
from sparseflow.recipes.triseg.evaluate import EvalConfig, evaluate
from sparseflow.recipes.triseg.export import ExportConfig, export
from sparseflow.recipes.triseg.problem import device_named, inputs_of
from sparseflow.recipes.triseg.qat import train_qat
from sparseflow.recipes.triseg.search import search
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.recipes.triseg.teacher import find_qat, load_teacher
from sparseflow.recipes.triseg.train import train_float
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["ZooConfig", "kinds", "zoo"]

_SPLITS = ("val", "test")
_LEAST = 6
_COUNTED = 128
PROTOCOL = (
    "Every network goes through the same calls: training in float32 and on codes unless its checkpoint is there, a "
    "search over all of its sites, the accuracy of the result, and an export that is run and compared. Nothing is "
    "written for one network. Short trainings show that the way can be gone; accuracies are those of short trainings."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooConfig:
    """Which networks, and how long each step takes.

    Args:
        networks: names of the zoo, or `file.py:function` of the user; none for the whole zoo.
        out: folder of the checkpoints; one that lies there is taken, others are trained.
        data: CIFAR-10, as `data.cifar10` takes it; None for the images that ship with sparseflow.
        epochs: passes of each of the two trainings.
        minutes: train for so long instead, each of both.
        batch_size: images a step of training.
        lr: peak rate of the training in float32; a tenth of it on codes.
        graph: on CUDA, replay each training step as one graph.
        episodes: configurations that a search scores.
        score_images: images that a score is taken on.
        top: finalists that are judged.
        max_acc_drop: points of accuracy that may be lost.
        split: images of the accuracy, "val" or "test".
        exported: images on which the export is compared.
        jobs: networks at a time, each in a process of its own that has its part of the threads.
        report: file for the JSON, or None.
        device: "auto", "cpu" or "cuda".
        seed: of trainings and searches.

    Raises:
        ConfigError: a number below 1, or no such split or device.
    """

    networks: tuple[str, ...] = ()
    out: str = "outputs"
    data: str | None = None
    epochs: int = 2
    minutes: float | None = None
    batch_size: int = 128
    lr: float = 0.02
    graph: bool = False
    episodes: int = 100
    score_images: int = 64
    top: int = 8
    max_acc_drop: float = 2.0
    split: str = "val"
    exported: int = 20
    jobs: int = 1
    report: str | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_choice(self, "split", _SPLITS)
        check_choice(self, "device", ("auto", "cpu", "cuda"))
        for name in ("epochs", "batch_size", "episodes", "score_images", "top", "exported", "jobs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The networks."""
        return self.networks or tuple(models.names("convnets"))


def zoo(config: ZooConfig, *, splits: Splits | None = None, progress: bool = True) -> dict[str, Any]:
    """Take every network from nothing to an export, and check that all of its sites were approximated.

    A network that one of our errors stops is a failed check, and the others go on.

    Args:
        config: which, and how long.
        splits: images already opened, for one network at a time; trainings open `config.data` themselves.
        progress: show a bar over the networks.

    Returns:
        `{"checks": [...], "ok": ..., "rows": [...], ...}`.

    Raises:
        ConfigError: several processes are to share `splits`.
        DataError: the report cannot be written.
    """
    began = time.perf_counter()
    if splits is not None and config.jobs > 1:
        raise ConfigError("every one of several processes opens its images; give data in place of splits")
    if config.report is not None:
        prepare_folder(Path(config.report).parent)
    shown: dict[str, Any] = {"total": len(config.chosen), "desc": "networks", "disable": None if progress else True}
    if config.jobs > 1:
        threads = max(1, torch.get_num_threads() // config.jobs)
        tasks = [(name, config, threads) for name in config.chosen]
        with ProcessPoolExecutor(config.jobs, mp_context=get_context("spawn")) as pool:
            rows = list(tqdm(pool.map(_apart, tasks), **shown))
    else:
        rows = [_row(name, config, splits) for name in tqdm(config.chosen, **shown)]
    body = checks_body(
        [check for row in rows for check in _checks(row, config)] + _whole(rows, config),
        bench="triseg zoo",
        protocol=PROTOCOL,
        config=asdict(config),
        rows=rows,
        environment=describe(),
        wall_s=time.perf_counter() - began,
    )
    if config.report is not None:
        write_atomic(config.report, json.dumps(body, indent=1, allow_nan=False) + "\n")
    return body


def kinds(net: IntegerNet) -> tuple[bool, bool]:
    """Return whether a network adds values of its graph, and whether it convolves channels one by one."""
    modules = dict(net.graph.named_modules())
    sums = any(
        n.op == "call_module" and isinstance(modules[str(n.target)], IntegerSum) and len(n.all_input_nodes) > 1
        for n in net.graph.graph.nodes
    )
    groups = [(layer.call.get("groups", 1), len(layer.weight)) for layer in net.layers.values()]
    return sums, any(1 < count == outputs for count, outputs in groups)


def _apart(task: tuple[str, ZooConfig, int]) -> dict[str, Any]:
    name, config, threads = task
    torch.set_num_threads(threads)
    return _row(name, config, None)


def _row(model: str, config: ZooConfig, splits: Splits | None) -> dict[str, Any]:
    began = time.perf_counter()
    row: dict[str, Any] = {"name": network_name(model), "model": model}
    try:
        row |= _measured(model, config, splits)
    except SparseFlowError as e:
        row["error"] = f"{type(e).__name__}: {e}"
    return row | {"seconds": time.perf_counter() - began}


def _measured(model: str, config: ZooConfig, splits: Splits | None) -> dict[str, Any]:
    shared: dict[str, Any] = {"model": model, "out": config.out, "data": config.data, "device": config.device}
    trained = _train(model, config)
    parts = open_splits(config.data) if splits is None else splits
    settings = SearchConfig(
        **shared, episodes=config.episodes, batch_size=config.score_images, top=config.top, seed=config.seed,
        max_acc_drop=config.max_acc_drop, result_file=f"zoo_{network_name(model)}.json",
    )  # fmt: skip
    found = search(settings, splits=parts, progress=False)
    at = Path(config.out) / "runs" / "triseg" / f"zoo_{network_name(model)}"
    told = evaluate(
        EvalConfig(**shared, config_path=str(found.path), split=config.split, report=str(at / "eval_report.json")),
        splits=parts,
    )
    teacher = load_teacher(model, config.out, device=device_named(config.device))
    images = inputs_of(teacher, parts.calib.take(min(_COUNTED, len(parts.calib))))
    cost = cost_of(
        teacher.net, teacher.sites, found.result.codes(teacher.names), [images], mode=found.result.overflow
    )  # fmt: skip
    checks = export(
        ExportConfig(
            model=model, out=config.out, config_path=str(found.path), folder=str(at / "export"), images=config.exported
        ),
        splits=parts,
    )["checks"]
    residual, depthwise = kinds(teacher.net)
    return {
        "trained": trained,
        "sites": list(teacher.names),
        "left": [name for name in teacher.names if name not in found.result.layers],
        "residual": residual,
        "depthwise": depthwise,
        "acc_teacher": told["acc_baseline"],
        "acc_student": told["acc_modified"],
        "drop": told["acc_drop"],
        "images": told["images"],
        "bits": cost.bits_per_activation,
        "avoided": cost.multiplies_avoided,
        "exported": checks,
        "unequal": sum(one["unequal"] for one in checks.values() if isinstance(one, dict)),
        "result": str(found.path),
    }


def _train(model: str, config: ZooConfig) -> bool:
    """Return whether the network had to be trained."""
    try:
        find_qat(model, config.out)
    except DataError:
        shared: dict[str, Any] = {
            "model": model, "out": config.out, "data": config.data, "device": config.device, "epochs": config.epochs,
            "minutes": config.minutes, "batch_size": config.batch_size, "nesterov": True, "schedule": "cosine",
            "clip": 5.0, "degrees": 0.0, "weight_decay": 5e-4, "graph": config.graph, "seed": config.seed,
        }  # fmt: skip
        train_float(TrainConfig(**shared, lr=config.lr, warmup=0.1, erasing=0.0), progress=False)
        train_qat(
            QatConfig(**shared, lr=config.lr / 10, erasing=0.0, warmup_float_epochs=0.0), progress=False
        )  # fmt: skip
        return True
    return False


def _checks(row: dict[str, Any], config: ZooConfig) -> list[Check]:
    name, nan = row["name"], float("nan")
    residual, depthwise = row.get("residual"), row.get("depthwise")
    kind = f"{name}{', residual' if residual else ''}{', depthwise' if depthwise else ''}"
    count = len(row.get("sites", ()))
    rows = [
        ("sites left as they were" + (f", of {count}" if count else ""), float(len(row["left"])) if count else nan,
         "sites", "==", 0.0),
        (f"drop on {row.get('images', 'the')} {config.split} images, INT8 {row.get('acc_teacher', nan):.1f} %",
         float(row.get("drop", nan)), "points", "<=", config.max_acc_drop),
        (f"exported, of {config.exported} images unlike Python's", float(row.get("unequal", nan)), "images", "==", 0.0),
    ]  # fmt: skip
    return [Check(show="1", name=f"{kind}: {n}", value=v, unit=u, rule=r, bound=b) for n, v, u, r, b in rows]


def _whole(rows: Sequence[dict[str, Any]], config: ZooConfig) -> list[Check]:
    """Hold a run over the whole zoo against what is claimed of it."""
    if not set(models.names("convnets")) <= set(config.chosen):
        return []
    done = [row for row in rows if "error" not in row]
    counts = (
        ("networks by one command", len(done), _LEAST),
        ("of them residual", sum(row["residual"] for row in done), 1),
        ("of them depthwise", sum(row["depthwise"] for row in done), 1),
        ("of them a user's own", sum(":" in row["model"] for row in done), 1),
    )
    return [
        Check(show="1", name=name, value=float(count), unit="networks", rule=">=", bound=float(least))
        for name, count, least in counts
    ]
