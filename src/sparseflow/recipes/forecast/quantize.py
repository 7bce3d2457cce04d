"""A trained forecaster in integers: calibrated, trained on codes where asked, scored in integers alone."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.quantize import ForecastBits, calibrate_forecaster
from sparseflow.compress.quantize.forecaster import learned_spec
from sparseflow.errors import ConfigError, DataError, MeasurementError
from sparseflow.ir.files import write_atomic
from sparseflow.ir.qspec import QSpec
from sparseflow.nn.models.cmamba import CMamba, IntRef, build_model, lower
from sparseflow.nn.models.cmamba.fake import bind_scales
from sparseflow.nn.models.cmamba.int_engine import IntEngine, isas
from sparseflow.nn.models.cmamba.lowering import Arrays
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.forecast.checkpoint import Forecaster, load_forecaster, save_forecaster
from sparseflow.recipes.forecast.dataset import Pool, Task, open_task
from sparseflow.recipes.forecast.distance import fake_distance
from sparseflow.recipes.forecast.fit import fit, val_loss
from sparseflow.recipes.forecast.score import Scores, score

__all__ = ["IntegerForecaster", "QuantizeConfig", "load_integers", "quantize", "score_integers"]

# Asked of the integers over float32, by the bits of the weights: INT8 and W4A8.
_ALLOWED = {8: 1.005, 4: 1.02}
_VAL = 512
_NEAR = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeConfig:
    """How a forecaster becomes integers.

    Args:
        checkpoint: file of a training, or the name of one that ships.
        data: file or folder of the data set; None for where it lay in the training, or the ETTh1 that ships.
        weights: bits of weights, 2 to 8.
        activations: bits of activations, 3 to 8.
        rule: how scales are chosen, see `compress.quantize.ForecastBits`.
        windows: of the training part, evenly spread, to see the ranges on.
        epochs: of training on codes, weights and scales together (LSQ); 0 for none.
        lr: learning rate of that training.
        train_limit: use only so many windows for it, evenly spread.
        split: part to score on: "test" or "val".
        limit: score on so many windows, evenly spread; None for all.
        compare: hold every forecast of the compiled engine to the reference's, on each instruction set, and every
            tensor of the network that trains on codes to the reference's.
        compare_limit: on so many windows, evenly spread; None for all that are scored.
        out: folder of `forecaster.safetensors` and `qspec.json`.

    Raises:
        ConfigError: a value out of range.
    """

    checkpoint: str
    data: str | None = None
    weights: int = 8
    activations: int = 8
    rule: str = "largest"
    windows: int = 256
    epochs: int = 0
    lr: float = 1e-5
    train_limit: int | None = None
    split: str = "test"
    limit: int | None = None
    compare: bool = False
    compare_limit: int | None = None
    out: str = "outputs/forecast_integers"

    def __post_init__(self) -> None:
        """Check the fields."""
        ForecastBits(weights=self.weights, activations=self.activations, rule=self.rule)
        for name, least in (("windows", 1), ("epochs", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {least}")
        for name in ("limit", "compare_limit", "train_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected at least 1, or nothing")
        if not self.lr > 0:
            raise ConfigError(f"lr is {self.lr}; expected more than 0")

    @property
    def bits(self) -> ForecastBits:
        """Bits and rule."""
        return ForecastBits(weights=self.weights, activations=self.activations, rule=self.rule)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerForecaster:
    """A forecaster in integers.

    Args:
        forecaster: the float network whose weights were lowered, and its task.
        spec: of every tensor.
        arrays: every integer, by name.
    """

    forecaster: Forecaster
    spec: QSpec
    arrays: Arrays

    @property
    def reference(self) -> IntRef:
        """The integer network in NumPy."""
        return IntRef(self.forecaster.model.args, self.arrays)

    @property
    def fastest(self) -> IntEngine | IntRef:
        """The compiled engine, which computes the same numbers; the reference where it is missing."""
        return IntEngine(self.forecaster.model.args, self.arrays) if isas() else self.reference


def quantize(config: QuantizeConfig, *, progress: bool = True, fp32: Scores | None = None) -> dict[str, Any]:
    """Lower a forecaster to integers, write it, and score it beside float32.

    Args:
        config: what and how.
        progress: show a progress bar while training on codes.
        fp32: errors of the float network on the same windows where they are known already.

    Returns:
        `fp32` and `integers`: MSE, MAE and windows of each; `checks` of what is asked; `files` written.

    Raises:
        ConfigError: a value out of range, or a "seed" network.
        DataError: the checkpoint or the data cannot be read.
        MeasurementError: a forecast is not finite.
    """
    found = load_forecaster(config.checkpoint)
    trained = found.config if config.data is None else replace(found.config, data=config.data)
    task = open_task(trained, found.scaler)
    batches = torch.split(_spread(task.part("train"), config.windows)[0], 64)
    spec = calibrate_forecaster(found.model, batches, config.bits)
    lines: list[dict[str, Any]] = []
    made = found
    if config.epochs:
        learned, spec, lines = _learn(found.model, spec, config, found, task, progress)
        made = replace(found, model=learned)
    made = replace(made, record={**found.record, "qspec": json.loads(spec.to_json())})
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    files = [save_forecaster(out / "forecaster.safetensors", made)]
    files.append(write_atomic(out / "qspec.json", spec.to_json()))
    integers = IntegerForecaster(forecaster=made, spec=spec, arrays=_lowered(made.model, spec))
    pool = task.part(config.split)
    float_scores = fp32 or _float_scores(found.model, pool, found.targets, config.limit)
    scores = score_integers(integers, pool, limit=config.limit)
    name = f"W{config.weights}A{config.activations} MSE over FP32"
    allowed = _ALLOWED.get(config.weights, 1.02)
    checks = [Check(show="2", name=name, value=scores.mse / float_scores.mse, unit="x", rule="<=", bound=allowed)]
    if config.compare:
        checks += _compared(integers, pool, config.compare_limit or config.limit)
    return {
        "task": found.config.name,
        "split": config.split,
        "settings": asdict(config),
        "qspec": spec.digest,
        "fp32": float_scores.to_dict(),
        "integers": scores.to_dict(),
        "epochs": lines,
        "files": [str(f) for f in files],
        **checks_body(checks),
    }


def load_integers(path: str | Path) -> IntegerForecaster:
    """Read what `quantize` wrote.

    Raises:
        DataError: no such file, a damaged one, or a forecaster that was never quantised; says how to.
        ConfigError: its specification is of another version.
    """
    found = load_forecaster(path)
    body = found.record.get("qspec")
    if body is None:
        raise DataError(f"{path} has no QSpec; make one with: sparseflow forecast quantize --checkpoint {path}")
    spec = QSpec.from_json(json.dumps(body))
    return IntegerForecaster(forecaster=found, spec=spec, arrays=_lowered(found.model, spec))


def score_integers(integers: IntegerForecaster, pool: Pool, *, limit: int | None = None) -> Scores:
    """Return the errors of the integer network, by the compiled engine, or by NumPy's int64 where that is missing.

    Args:
        integers: what to score.
        pool: windows.
        limit: so many, evenly spread; None for all.

    Raises:
        MeasurementError: the errors are not finite.
    """
    x, y = _spread(pool, limit or len(pool))
    targets = list(integers.forecaster.targets)
    error = torch.from_numpy(integers.fastest(x))[:, targets] - y[:, targets].double()
    mse, mae = float(error.square().mean()), float(error.abs().mean())
    if not mse < float("inf"):
        raise MeasurementError(f"the integer forecast is not finite: MSE {mse}, MAE {mae}")
    return Scores(mse=mse, mae=mae, windows=len(x))


def _compared(integers: IntegerForecaster, pool: Pool, limit: int | None) -> list[Check]:
    """Hold engine and FakeQuant to the reference; NaN where there is no engine."""
    x, _ = _spread(pool, limit or len(pool))
    want = integers.reference.codes(x)
    checks = []
    for isa in isas() or ["C++"]:
        engine = IntEngine(integers.forecaster.model.args, integers.arrays, isa=isa) if isas() else None
        wrong = float("nan") if engine is None else float((engine.codes(x) != want).sum())
        name = f"numbers of {len(x)} forecasts on {isa} unlike the reference"
        checks.append(Check(show="1", name=name, value=wrong, unit="numbers", rule="==", bound=0))
    near, _ = _spread(pool, min(len(x), _NEAR))
    gaps = fake_distance(integers.forecaster.model, integers.spec, integers.arrays, near)
    name = f"codes between FakeQuant and the reference, at most, in {len(gaps)} tensors"
    return [*checks, Check(show="2", name=name, value=max(gaps.values()), unit="LSB", rule="<=", bound=1)]


def _float_scores(model: CMamba, pool: Pool, targets: tuple[int, ...], limit: int | None) -> Scores:
    if limit is None:
        return score(model, pool, targets=targets)
    x, y = _spread(pool, limit)
    with torch.no_grad():
        error = (model(x) - y)[:, list(targets)].double()
    return Scores(mse=float(error.square().mean()), mae=float(error.abs().mean()), windows=len(x))


def _spread(pool: Pool, windows: int) -> tuple[Tensor, Tensor]:
    """Return some windows, evenly spread, or all of them."""
    if windows >= len(pool):
        return pool.take(torch.arange(len(pool)))
    return pool.take(torch.linspace(0, len(pool) - 1, windows).round().long())


def _lowered(model: CMamba, spec: QSpec) -> Arrays:
    return lower(model.args, {name: p.detach().numpy() for name, p in model.named_parameters()}, spec)


class _Some:
    """Some windows of a pool, evenly spread; see `dataset.Pool`."""

    def __init__(self, pool: Pool, windows: int) -> None:
        self.pool = pool
        self.index = torch.linspace(0, len(pool) - 1, min(windows, len(pool))).round().long()

    @property
    def variates(self) -> int:
        return self.pool.variates

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> "_Some":
        del device
        return self

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool.take(self.index[index])


def _learn(
    model: CMamba, spec: QSpec, config: QuantizeConfig, found: Forecaster, task: Task, progress: bool
) -> tuple[CMamba, QSpec, list[dict[str, Any]]]:
    """Train weights and scales on codes; return what did best on val, the start among it, and the losses there."""
    student = build_model(model.args, "fakeq").eval()
    student.load_state_dict(model.state_dict())
    bind_scales(student, spec)
    train = task.part("train") if config.train_limit is None else _Some(task.part("train"), config.train_limit)
    val = _Some(task.part("val"), _VAL)
    settings = replace(
        found.config, lr=config.lr, epochs=config.epochs, patience=config.epochs, steady=1, decay=0.5,
        train_limit=None, device="cpu", precision="float32", eval_batch=64, ema=0.0,
        # A run goes on from what lies in its folder, which must not be of other weights, scales or windows.
        out=str(Path(config.out) / f"w{config.weights}a{config.activations}_{spec.digest}_{len(train)}"),
    )  # fmt: skip
    before = val_loss(student, val, found.targets, settings.eval_batch)
    parts: dict[str, Pool] = {"train": train, "val": val}
    lines = fit(student, settings, replace(task, parts=parts), progress=progress)
    lines.insert(0, {"epoch": -1, "val": before, "kept": before <= min(line["val"] for line in lines)})
    if lines[0]["kept"]:
        return model, spec, [lines[0], *({**line, "kept": False} for line in lines[1:])]
    learned = build_model(model.args).eval()
    learned.load_state_dict({k: v for k, v in student.state_dict().items() if not k.startswith("scales.")})
    return learned, learned_spec(student), lines
