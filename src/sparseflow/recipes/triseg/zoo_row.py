"""The whole way of one network: trained unless its checkpoint is there, searched, measured, counted, exported."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparseflow import search as search_room
from sparseflow.compress import approximate, quantize
from sparseflow.compress.approximate import cost_of
from sparseflow.compress.quantize import IntegerNet
from sparseflow.compress.quantize.integer_ops import IntegerSum
from sparseflow.data.splits import Splits, open_splits
from sparseflow.errors import DataError
from sparseflow.ir._json import digest
from sparseflow.ir.files import write_atomic
from sparseflow.ops import int8_net, triseg
from sparseflow.recipes.triseg.checkpoint import network_name
from sparseflow.recipes.triseg.config import QatConfig, TrainConfig
from sparseflow.recipes.triseg.evaluate import EvalConfig, evaluate
from sparseflow.recipes.triseg.export import ExportConfig, export
from sparseflow.recipes.triseg.problem import device_named, inputs_of
from sparseflow.recipes.triseg.qat import train_qat
from sparseflow.recipes.triseg.search import search
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.recipes.triseg.teacher import Teacher, find_qat, load_teacher
from sparseflow.recipes.triseg.train import float_file, train_float
from sparseflow.recipes.triseg.zoo_config import ZooConfig
from sparseflow.records import source_hash
from sparseflow.report.files import prepare_folder

__all__ = ["kinds", "measured"]

_COUNTED = 128
_SHARES = (92.0, 88.0, 80.0, 70.0, 60.0)
_STEPS = ("evaluate", "export", "methods", "problem", "search", "zoo_row")


def measured(model: str, config: ZooConfig, splits: Splits | None = None) -> dict[str, Any]:
    """Return the figures of one network, from the files of an earlier run that was stopped behind it where they hold.

    Args:
        model: name of the zoo, or `file.py:function`.
        config: how long each step takes.
        splits: images already opened, whose figures are not kept; None opens `config.data`. Trainings open
            `config.data` themselves.

    Raises:
        SparseFlowError: a step cannot be taken; says which network lacks what.
    """
    began = time.perf_counter()
    folder = prepare_folder(Path(config.out) / "runs" / "triseg" / f"zoo_{network_name(model)}")
    trained = _train(model, config, folder)
    checkpoint = source_hash(find_qat(model, config.out))
    made_of = digest({"config": config.of_a_row(), "model": model, "checkpoint": checkpoint, "code": _code()})
    kept = folder / "row.json"
    own = splits is None
    if own and config.resume and (stored := _read(kept)).get("of") == made_of:
        return {"trained": trained, **stored["row"]}
    row = _way(model, config, folder, splits) | {"seconds": time.perf_counter() - began}
    if own:
        write_atomic(kept, json.dumps({"of": made_of, "row": row}, indent=1, allow_nan=False) + "\n")
    return {"trained": trained, **row}


def _code() -> str:
    """Return a hash of the code that the figures come from."""
    homes = [Path(str(module.__file__)).parent for module in (approximate, quantize, search_room, int8_net, triseg)]
    files = [path for home in homes for path in sorted(home.glob("*.py"))]
    return source_hash(*files, *(Path(str(__file__)).parent / f"{name}.py" for name in _STEPS))


def kinds(net: IntegerNet) -> tuple[bool, bool]:
    """Return whether a network adds values of its graph, and whether it convolves channels one by one."""
    modules = dict(net.graph.named_modules())
    sums = any(
        n.op == "call_module" and isinstance(modules[str(n.target)], IntegerSum) and len(n.all_input_nodes) > 1
        for n in net.graph.graph.nodes
    )
    groups = [(layer.call.get("groups", 1), len(layer.weight)) for layer in net.layers.values()]
    return sums, any(1 < count == outputs for count, outputs in groups)


def _way(model: str, config: ZooConfig, folder: Path, splits: Splits | None) -> dict[str, Any]:
    shared: dict[str, Any] = {"model": model, "out": config.out, "data": config.data, "device": config.device}
    parts = open_splits(config.data) if splits is None else splits
    if config.judged is not None:
        parts = replace(parts, val=parts.val.take(min(config.judged, len(parts.val))))
    settings = SearchConfig(
        **shared, episodes=config.episodes, batch_size=config.score_images, top=config.top, seed=config.seed,
        calib_batches=8, halving=2, halving_images=4 * config.score_images, max_acc_drop=config.max_acc_drop,
        tmax_shares=_SHARES, resume=config.resume, result_file=f"zoo_{network_name(model)}.json",
    )  # fmt: skip
    found = search(settings, splits=parts, progress=False)
    told = evaluate(
        EvalConfig(**shared, config_path=str(found.path), split=config.split, report=str(folder / "eval_report.json")),
        splits=parts,
    )
    teacher = load_teacher(model, config.out, device=device_named(config.device))
    images = inputs_of(teacher, parts.calib.take(min(_COUNTED, len(parts.calib))))
    cost = cost_of(
        teacher.net, teacher.sites, found.result.codes(teacher.names), [images], mode=found.result.overflow
    )  # fmt: skip
    checks = export(
        ExportConfig(
            model=model, out=config.out, config_path=str(found.path), folder=str(folder / "export"),
            images=config.exported,
        ),
        splits=parts,
    )["checks"]  # fmt: skip
    residual, depthwise = kinds(teacher.net)
    return {
        "weights": sum(layer.weight.numel() for layer in teacher.net.layers.values()),
        "sites": list(teacher.names),
        "left": [name for name in teacher.names if name not in found.result.layers],
        "residual": residual,
        "depthwise": depthwise,
        "val_of_training": _record(teacher).get("val_accuracy"),
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


def _train(model: str, config: ZooConfig, folder: Path) -> bool:
    """Return whether the network had to be trained, by this run or an earlier one that was stopped.

    A training writes its checkpoint whenever it is better, so that a note says which stages are through.
    """
    note = folder / "training.json"
    stage = _read(note).get("stage")
    if stage not in ("float", "qat"):
        try:
            return stage == source_hash(find_qat(model, config.out))
        except DataError:
            pass
    shared: dict[str, Any] = {
        "model": model, "out": config.out, "data": config.data, "device": config.device, "epochs": config.epochs,
        "minutes": config.minutes, "batch_size": config.batch_size, "nesterov": True, "schedule": "cosine",
        "clip": 5.0, "degrees": 0.0, "weight_decay": 5e-4, "graph": config.graph, "seed": config.seed,
    }  # fmt: skip
    plain = TrainConfig(**shared, lr=config.lr, warmup=0.1, erasing=0.0)
    if stage != "qat" or not float_file(plain).is_file():
        _write(note, "float")
        train_float(plain, progress=False)
    _write(note, "qat")
    train_qat(QatConfig(**shared, lr=config.lr / 10, erasing=0.0, warmup_float_epochs=0.0), progress=False)
    _write(note, source_hash(find_qat(model, config.out)))
    return True


def _record(teacher: Teacher) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(teacher.metadata.get("record", "{}"))
    return found


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(note: Path, stage: str) -> None:
    write_atomic(note, json.dumps({"stage": stage}) + "\n")
