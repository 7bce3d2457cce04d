"""`sparseflow triseg export`: a network with its found codes as files that need no Python, checked bit by bit."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.approximate import TriSegResult
from sparseflow.compress.approximate.result import FOLDER
from sparseflow.compress.quantize import to_program
from sparseflow.data.splits import Splits, open_splits
from sparseflow.errors import ConfigError, DataError, MeasurementError, UnsupportedError
from sparseflow.export import export_c, export_onnx, export_pt2e, write_plan
from sparseflow.export.onnx import run_onnx
from sparseflow.export.pt2e import run_pt2e
from sparseflow.ops.int8_net import Engine, Program, reference
from sparseflow.ops.int8_net.cpp import ABSENT
from sparseflow.ops.int8_net.space import plan_bytes
from sparseflow.ops.triseg import tables
from sparseflow.recipes.triseg.problem import inputs_of
from sparseflow.recipes.triseg.teacher import Teacher, load_teacher
from sparseflow.recipes.triseg.weights import result_of, weights_of

__all__ = ["ExportConfig", "chosen_tables", "export"]

_FORMATS = ("plan", "c", "onnx", "pt2e")
_AT_ONCE = 100
_MEAN_ERROR = 1e-6
_OTHER_CLASS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What is exported, and how it is checked.

    Args:
        model: name of the zoo, `file.py:function`, or the path of a checkpoint.
        out: folder of the checkpoints and results.
        config_path: the result whose codes apply; None for `result.json` in `tri_ppo_int_codes` below `out`.
        plain: leave the codes as they are: the network that the search starts from.
        folder: where the files go; None for `export/<model>` below `out`.
        name: prefix of C files and symbols; None for the name of the network.
        formats: any of "plan", "c", "onnx" and "pt2e".
        images: on how many images the files must give what Python gives; 0 checks nothing.
        data: CIFAR-10, as `data.cifar10` takes it; None for the images that ship with sparseflow.

    Raises:
        ConfigError: no such format, or a negative number of images.
    """

    model: str = "alexnet"
    out: str = "outputs"
    config_path: str | None = None
    plain: bool = False
    folder: str | None = None
    name: str | None = None
    formats: tuple[str, ...] = ("plan", "c")
    images: int = 1000
    data: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.formats or any(f not in _FORMATS for f in self.formats):
            raise ConfigError(f"formats is {self.formats}; expected some of {', '.join(_FORMATS)}")
        if self.images < 0:
            raise ConfigError(f"images is {self.images}; expected 0 or more")
        if self.plain and self.config_path is not None:
            raise ConfigError("plain exports the network without codes; leave config_path out")

    @property
    def result_path(self) -> Path:
        """The result file."""
        return Path(self.out) / FOLDER / "result.json" if self.config_path is None else Path(self.config_path)


def export(config: ExportConfig, *, splits: Splits | None = None) -> dict[str, Any]:
    """Write a network's plan, C sources, ONNX and PT2E files, and check that they compute what it computes.

    The engine runs the plan, a C compiler where there is one builds the sources, and ONNX Runtime where it is installed
    runs that file, on `images` images (never those for testing); every output must equal Python's to the bit (behind a
    mean of logits, to 1e-6). A PT2E file sums in float32, so that codes at a half may differ by one: of it at most one
    image in a hundred, or one, may be of another class.

    Args:
        config: what is exported.
        splits: images already opened; None opens `config.data`.

    Returns:
        The files and their sizes, multiplications of an image, and of each check images and unequal outputs.

    Raises:
        ConfigError: no such network, or a name that is no C identifier.
        DataError: checkpoint, result or images are missing or do not fit; names file and mend.
        MeasurementError: a file computes something else; says how often.
        UnsupportedError: the network has an operation that plans do not know; names it.
    """
    result = None if config.plain else result_of(config.result_path, model=config.model, out=config.out)
    teacher = (
        load_teacher(config.model, config.out)
        if result is None
        else weights_of(result, config.result_path, model=config.model, out=config.out).teacher
    )
    chosen = {} if result is None else chosen_tables(teacher, result, config.result_path)
    program = to_program(teacher.net, chosen, metadata=_notes(teacher, result))
    folder = Path(config.out) / "export" / teacher.name if config.folder is None else Path(config.folder)
    files: list[Path] = []
    if "plan" in config.formats:
        files.append(write_plan(program, folder / f"{teacher.name}.plan.safetensors"))
    name = teacher.name.lower().replace("-", "_") if config.name is None else config.name
    if "c" in config.formats:
        files += export_c(program, folder / "c", name)
    if "onnx" in config.formats:
        files.append(export_onnx(program, folder / f"{teacher.name}.onnx"))
    if "pt2e" in config.formats:
        files.append(export_pt2e(program, folder / f"{teacher.name}.pt2"))
    sources, nets, graphs = ([path for path in files if path.suffix == end] for end in (".c", ".onnx", ".pt2"))
    body: dict[str, Any] = {
        "model": teacher.name,
        "config_path": None if result is None else str(config.result_path),
        "files": {str(path): path.stat().st_size for path in files},
        "multiplications": program.multiplications,
        **plan_bytes(program),
    }
    if config.images:
        parts = open_splits(config.data) if splits is None else splits
        x = _images(teacher, parts, config.images)
        want = torch.cat([teacher.net(b, tables=chosen or None) for b in torch.split(x, _AT_ONCE)])
        flat = want.reshape(len(x), -1)
        body["checks"] = _checks(program, x, flat, sources, nets)
        if graphs:
            body["checks"]["pt2e"] = _classes(graphs[0], x, flat)
    return body


def chosen_tables(teacher: Teacher, result: TriSegResult, path: Path) -> dict[str, Tensor]:
    """Return the tables of a result by point, uint8 `[1, 256]`.

    Raises:
        DataError: the result is for another network; names the file.
    """
    if result.model != teacher.name:
        raise DataError(f"{path} is for model {result.model!r}, not {teacher.name!r}; name a file made for that")
    points = dict(zip(teacher.names, teacher.points, strict=True))
    if unknown := [name for name in result.layers if name not in points]:
        raise DataError(f"{path}: layer {unknown[0]!r} is no site of {teacher.name!r}; there are {', '.join(points)}")
    rows = zip(result.layers, result.codes(), strict=True)
    return {points[name]: tables(row[None], result.overflow) for name, row in rows}


def _images(teacher: Teacher, parts: Splits, count: int) -> Tensor:
    """Return images that nothing is judged by: of training, then of calibration and of selection, never of the test."""
    found: list[Tensor] = []
    for part in (parts.train, parts.calib, parts.val):
        wanted = min(count - sum(len(x) for x in found), len(part))
        if wanted:
            found.append(inputs_of(teacher, part.take(wanted)))
    return torch.cat(found)


def _notes(teacher: Teacher, result: TriSegResult | None) -> dict[str, str]:
    images = teacher.images
    found = {
        "model": teacher.name,
        "mean": json.dumps(images.mean),
        "std": json.dumps(images.std),
        "classes": json.dumps(images.classes),
    }
    return found if result is None else found | {"result": json.dumps(json.loads(result.to_json()))}


def _checks(
    program: Program, x: Tensor, want: Tensor, sources: Sequence[Path], nets: Sequence[Path]
) -> dict[str, dict[str, int] | str]:
    allowed = _MEAN_ERROR if any(step.op == "real_mean" for step in program.steps) else 0.0
    found: dict[str, dict[str, int] | str] = {}
    got: Mapping[str, Tensor | str] = {
        "engine": "the compiled kernels are missing" if ABSENT is not None else Engine(program)(x),
        "reference": torch.cat([reference.run(program, b) for b in torch.split(x[:_AT_ONCE], 10)]),
    }
    if sources:
        got = {**got, "c": _run_c(sources, x)}
    for path in nets:
        got = {**got, "onnx": _run_onnx(path, x)}
    for kind, outputs in got.items():
        if isinstance(outputs, str):
            found[kind] = outputs
            continue
        flat = outputs.reshape(len(outputs), -1)
        difference = (flat - want[: len(flat)]).abs()
        unequal = int((difference > allowed * want.abs().max()).any(1).sum())
        found[kind] = {"images": len(flat), "unequal": unequal}
        if unequal:
            raise MeasurementError(
                f"the {kind} gives other outputs than Python on {unequal} of {len(flat)} images, by up to"
                f" {float(difference.max()):.3g}; do not use the exported files, and report this network"
            )
    return found


def _classes(path: Path, x: Tensor, want: Tensor) -> dict[str, int]:
    """Return on how many images the largest output of a PT2E file is another one than Python's."""
    got = torch.cat([run_pt2e(path, b) for b in torch.split(x, _AT_ONCE)]).reshape(len(x), -1)
    other = int((got.argmax(1) != want.argmax(1)).sum())
    if other > max(1, _OTHER_CLASS * len(x)):
        raise MeasurementError(
            f"{path} gives another class than Python on {other} of {len(x)} images; do not use it, and report this"
            " network"
        )
    return {"images": len(x), "other_class": other}


def _run_onnx(path: Path, x: Tensor) -> Tensor | str:
    try:
        return torch.cat([run_onnx(path, b) for b in torch.split(x, _AT_ONCE)])
    except UnsupportedError as e:
        return str(e)


def _run_c(sources: Sequence[Path], x: Tensor) -> Tensor | str:
    """Return what the built C sources compute, or why they could not be built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "no C compiler"
    with tempfile.TemporaryDirectory() as temporary:
        command, images, outputs = (Path(temporary) / file for file in ("predict", "images.f32", "outputs.f32"))
        flags = ["-std=c99", "-ffp-contract=off", "-O3"]
        built = subprocess.run(
            [compiler, *flags, *map(str, sources), "-o", str(command), "-lm"], capture_output=True, text=True
        )  # fmt: skip
        if built.returncode:
            raise MeasurementError(f"{compiler} does not take the exported sources: {built.stderr[:400]}")
        x.contiguous().numpy().tofile(images)
        done = subprocess.run([command, images, outputs], capture_output=True, text=True)
        if done.returncode:
            raise MeasurementError(f"the exported C program failed: {done.stderr[:400]}")
        return torch.frombuffer(bytearray(outputs.read_bytes()), dtype=torch.float32).reshape(len(x), -1)
