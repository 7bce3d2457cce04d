"""The weights that a result belongs to: those of the network that was searched, or a fine-tuned result's own."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sparseflow.compress.approximate import TriSegResult
from sparseflow.errors import DataError
from sparseflow.recipes.triseg.checkpoint import build_network, network_name
from sparseflow.recipes.triseg.finetune import FINETUNED
from sparseflow.recipes.triseg.teacher import Teacher, find_qat, load_teacher

__all__ = ["Weights", "result_of", "weights_of"]

# As fine-tuning writes it into its result.
_SELECTION = re.compile(r"finetuned \((\w+), seed (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The networks of a result.

    Args:
        teacher: the one that its codes were found or trained for; with their tables it is the student.
        base: the INT8 network that drops are counted from: `teacher` itself, or what fine-tuning started from. None if
            the file of the latter has gone.
        tuned: whether the weights are those of fine-tuning.
    """

    teacher: Teacher
    base: Teacher | None
    tuned: bool


def result_of(path: str | Path, *, model: str, out: str | Path) -> TriSegResult:
    """Read a result; where it is missing as well as the checkpoint, the latter is named, which comes first.

    Args:
        path: the file.
        model: network that it is meant for, as for `load_teacher`.
        out: folder of the checkpoints.

    Raises:
        ConfigError: no such network.
        DataError: no checkpoint, no result, or one out of order; names file and mend.
    """
    if not Path(path).is_file():
        find_qat(model, out)
    return TriSegResult.read(path)


def weights_of(
    result: TriSegResult,
    path: str | Path,
    *,
    model: str,
    out: str | Path = "outputs",
    device: str | torch.device = "cpu",
    tuned: bool = False,
) -> Weights:
    """Load the network of a result, and of a fine-tuned one the weights that were trained with its codes.

    These lie in `out` under the name of the result, or under that which fine-tuning gives; or `model` is their file.

    Args:
        result: what the file holds.
        path: the file.
        model: name of the zoo, `file.py:function`, or the path of a checkpoint.
        out: folder of the checkpoints.
        device: where the networks are to run.
        tuned: the result is known to be fine-tuned, whatever it says.

    Raises:
        ConfigError: no such network.
        DataError: no checkpoint, or one that was fine-tuned with other codes; names the files and the mend.
    """
    builder = partial(build_network, model) if ":" in model and not model.endswith(".safetensors") else None
    load = partial(load_teacher, out=out, device=device, builder=builder)
    told = _SELECTION.match(result.selection)
    given = load(model) if model.endswith(".safetensors") or not (told or tuned) else None
    if given is not None and not (told or tuned):
        # Codes may be searched in a network that was fine-tuned before; it is then what they are held against.
        return Weights(teacher=given, base=given, tuned=False)
    codes = {name: list(five) for name, five in result.layers.items()}
    teacher = given if given is not None and _record(given).get("codes") == codes else None
    if teacher is None:
        name = network_name(model) if given is None else given.name
        teacher = load(str(_checkpoint(Path(path), Path(out), name, told)))
    if _record(teacher).get("codes", codes) != codes:
        raise DataError(
            f"{path} holds other codes than {teacher.source} was fine-tuned with; name the checkpoint that was written"
            " with this result, as --model FILE.safetensors"
        )
    return Weights(teacher=teacher, base=_base(teacher, Path(out), load), tuned=True)


def _checkpoint(path: Path, out: Path, name: str, told: re.Match[str] | None) -> Path:
    files = [out / f"{path.stem}.safetensors"]
    if told is not None:
        files.append(out / FINETUNED.format(model=name, mode=told[1], seed=told[2]))
    for file in files:
        if file.is_file():
            return file
    raise DataError(
        f"no checkpoint {files[-1]} beside the result {path}, whose weights are fine-tuned; name the folder that holds"
        " it, or a result that finetune wrote"
    )


def _record(teacher: Teacher) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(teacher.metadata.get("record", "{}"))
    return found


def _base(teacher: Teacher, out: Path, load: Callable[..., Teacher]) -> Teacher | None:
    source = _record(teacher).get("from")
    if source is None:
        return None
    name = Path(source).name
    files = (Path(source), teacher.source.parent / name, out / name)
    return next((load(str(file)) for file in files if file.is_file()), None)
