"""Forecasters proven in integers: errors of 8 and 4 bits on each, and the pack of the first from all sides."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.forecast.export import ExportConfig, export_forecaster
from sparseflow.recipes.forecast.quantize import QuantizeConfig, quantize
from sparseflow.recipes.forecast.score import Scores
from sparseflow.recipes.forecast.verify import VerifyConfig, verify
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["ProveConfig", "prove"]

_ABOUT = (
    "W8A8 is calibrated and not trained. W4A8 stands twice: calibrated, and trained on codes with its scales (LSQ), "
    "the weights that do best on val kept, the start among them. Errors are of the integers alone, on all windows of "
    "the test. The compiled engine is held to the reference on every window of the first forecaster, on some of the "
    "others, FakeQuant at every tensor of each. The pack is the first forecaster's in 8 bits."
)


_COMPARED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveConfig:
    """What is proven.

    Args:
        checkpoints: files of trainings, or names of forecasters that ship; the first one becomes the pack.
        data: file or folder of the data sets; None for where they lay in the training, or the ETTh1 that ships.
        epochs: of training on 4-bit codes.
        lr: learning rate of that training.
        train_limit: windows of it, evenly spread; None for all.
        limit: score on so many windows, evenly spread; None for all.
        vectors: random and edge vectors of linear layers, and as many steps of scans.
        target: device of the pack's estimate.
        cells: count cells with yosys.
        reader: program that reads the pack with NumPy alone, as `examples/read_pack.py`; None for none.
        folder: of forecasters in integers and of the pack.
        out: file for the JSON; None for none.

    Raises:
        ConfigError: no checkpoint, or a number out of range.
    """

    checkpoints: tuple[str, ...] = ("cmamba_etth1_96",)
    data: str | None = None
    epochs: int = 2
    lr: float = 1e-5
    train_limit: int | None = 2048
    limit: int | None = None
    vectors: int = 10_000
    target: str = "zcu102"
    cells: bool = True
    reader: str | None = None
    folder: str = "outputs/forecast_proof"
    out: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.checkpoints:
            raise ConfigError("checkpoints is empty; name at least one forecaster")
        if self.epochs < 1:
            raise ConfigError(f"epochs is {self.epochs}; expected at least 1, as 4 bits are proven trained")
        if self.train_limit is not None and self.train_limit < 1:
            raise ConfigError(f"train_limit is {self.train_limit}; expected at least 1, or nothing")
        VerifyConfig(pack="", vectors=self.vectors)
        for i in range(len(self.checkpoints)):
            self.steps(i)

    def steps(self, i: int) -> dict[str, QuantizeConfig]:
        """Return the ways in which a forecaster becomes integers, by name."""
        place = Path(self.folder) / str(i)
        eight = QuantizeConfig(
            checkpoint=self.checkpoints[i], data=self.data, limit=self.limit, compare=True,
            compare_limit=None if i == 0 else _COMPARED, out=str(place / "w8a8"),
        )  # fmt: skip
        four = replace(eight, weights=4, compare=False, out=str(place / "w4a8"))
        learnt = replace(
            four, epochs=self.epochs, lr=self.lr, train_limit=self.train_limit, out=str(place / "w4a8_lsq")
        )
        return {"W8A8": eight, "W4A8": four, "W4A8, LSQ": learnt}


def prove(config: ProveConfig, *, progress: bool = True, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Quantise forecasters, score them in integers, and verify the pack of the first.

    Args:
        config: what.
        progress: show progress bars while training on codes.
        say: called with what begins.

    Returns:
        `tasks`, of each forecaster the errors in float32, W8A8, W4A8 and W4A8 trained, with the epochs and seconds of
        that training; `pack`, what `verify` found; `checks` of both; `environment`, `protocol` and `wall_s`.

    Raises:
        ConfigError: a value out of range, or a "seed" network.
        DataError: a checkpoint or its data cannot be read.
        MeasurementError: a forecast is not finite.
    """
    began = time.perf_counter()
    if config.out is not None:
        prepare_folder(Path(config.out).parent)
    tasks: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    for i in range(len(config.checkpoints)):
        row, more = _task(config.steps(i), say, progress)
        tasks.append(row)
        checks += more
    pack = str(Path(config.folder) / "pack")
    say("pack")
    export_forecaster(ExportConfig(checkpoint=tasks[0]["forms"]["W8A8"]["file"], data=config.data, out=pack))
    found = verify(
        VerifyConfig(
            pack=pack, target=config.target, vectors=config.vectors, cells=config.cells, corruptions=True, faults=True,
            reader=config.reader,
        ),
        say=say,
    )  # fmt: skip
    checks += found.pop("checks")
    body = {
        "bench": "forecast pack", "digits": 4, "protocol": _ABOUT, "config": asdict(config),
        "checks": checks, "ok": all(check["ok"] for check in checks), "tasks": tasks, "pack": found,
        "environment": found.pop("environment"), "wall_s": time.perf_counter() - began,
    }  # fmt: skip
    if config.out is not None:
        write_atomic(config.out, json.dumps(body, indent=1, allow_nan=False))
    return body


def _task(
    steps: Mapping[str, QuantizeConfig], say: Callable[[str], None], progress: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the errors of one forecaster in each of its forms, and the checks of them under its name."""
    row: dict[str, Any] = {"forms": {}}
    checks: list[dict[str, Any]] = []
    known: Scores | None = None
    for name, settings in steps.items():
        say(f"{settings.checkpoint}, {name}")
        body = quantize(settings, progress=progress, fp32=known)
        known = Scores(**body["fp32"])
        row |= {key: body[key] for key in ("task", "split", "fp32")}
        lines = body["epochs"]
        row["forms"][name] = {
            **body["integers"],
            "qspec": body["qspec"],
            "file": body["files"][0],
            "epochs": lines,
            "trained_s": sum(line.get("seconds", 0.0) for line in lines),
        }
        first, *more = body["checks"]
        checks += [
            {**check, "name": f"{body['task']}, {text}"}
            for check, text in [(first, f"{name} MSE over FP32"), *((check, check["name"]) for check in more)]
        ]
    return row, checks
