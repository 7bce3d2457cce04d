"""`sparseflow codesign fit`: proxies of latency, memory and power from measured layers."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.hardware import load_target
from sparseflow.hardware.proxy import FIGURES, Fitted, LayerProxyModel, read_fitted, tabulate, write_fitted
from sparseflow.hardware.proxy.model import bound_of
from sparseflow.ir import Target
from sparseflow.recipes.codesign import _train
from sparseflow.recipes.codesign._teacher import Teachers
from sparseflow.recipes.codesign.measured_layers import SPACES, sampled, unseen
from sparseflow.recipes.codesign.measurements import Measured, Run, read
from sparseflow.report.files import prepare_folder

__all__ = ["FitConfig", "fit", "split"]

_VALIDATE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """What to fit, and on what.

    Args:
        data: files of `sparseflow codesign measure`.
        out: file of the proxy, a `.safetensors`.
        target: device that the layers ran on, a name of `hardware.target_names()` or a file; its peak rates make the
            bounds.
        tdp_w: power that it may draw; None for a fifth above the highest that was measured.
        figures: which to fit; models of others that `out` holds stay there.
        members: networks of an ensemble.
        hidden: width of their three layers.
        form: "bound", a learned utilisation of a roofline; or "spec", thirteen features to the figure itself.
        shown: layers that nobody measured, with the figure that a Gaussian process of the measured ones gives them;
            the networks learn from them and from its figures of the measured. 0 trains them on what was measured.
        steps: of training.
        batch: layers of a step.
        lr: first learning rate.
        decay: weight decay.
        probes: pairs of shares whose order latency and memory are held to.
        seed: of weights and batches.

    Raises:
        ConfigError: no data, an unknown figure, or a count below 1.
    """

    data: tuple[str, ...] = ()
    out: str = "runs/codesign/proxy.safetensors"
    target: str = "h200"
    tdp_w: float | None = None
    figures: tuple[str, ...] = FIGURES
    members: int = 3
    hidden: int = 128
    form: str = "bound"
    shown: int = 6000
    steps: int = 1500
    batch: int = 256
    lr: float = 4e-3
    decay: float = 1e-3
    probes: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.data:
            raise ConfigError("data names no file of measured layers; make one with: sparseflow codesign measure")
        if unknown := [f for f in self.figures if f not in FIGURES]:
            raise ConfigError(f"figures has {', '.join(unknown)}; expected some of {', '.join(FIGURES)}")
        if min(self.members, self.hidden, self.steps, self.batch, self.probes) < 1 or self.lr <= 0:
            raise ConfigError("members, hidden, steps, batch, probes and lr are expected to be above 0")


def split(layers: Sequence[Measured]) -> tuple[list[Measured], list[Measured], list[Measured]]:
    """Return layers to train on, to calibrate on, and to test on; the last two have pairs (C, L) of their own."""
    test = [m for m in layers if unseen(m.layer)]
    rest = [m for m in layers if not unseen(m.layer)]
    held = [m for m in rest if _held(m)]
    return [m for m in rest if not _held(m)], held, test


def _held(m: Measured) -> bool:
    return random.Random(f"held {m.layer.kind} {m.layer.channels} {m.layer.tokens}").random() < _VALIDATE


def fit(config: FitConfig, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Fit, calibrate and write a proxy.

    Args:
        config: what to fit.
        say: is told each figure as it is done.

    Returns:
        `{"out": ..., "layers": {"train": …, "held": …, "test": …}, "log_error": {figure: …}, "wall_s": …}`.

    Raises:
        ConfigError: `out` holds models of another device that would stay.
        DataError: a file is none of measurements, or too few layers.
    """
    began = time.perf_counter()
    runs, layers, _ = read([Path(p) for p in config.data])
    trained, held, test = split(layers)
    if len(trained) < 20 or len(held) < 5:
        raise DataError(
            f"{', '.join(config.data)}: {len(layers)} layers are too few to fit on; measure a hundred or more"
        )
    target = load_target(config.target)
    powers = [m.power_w for m in layers if m.power_w is not None]
    tdp_w = config.tdp_w or 1.2 * max(powers, default=1.0)
    models: dict[str, LayerProxyModel] = {}
    about: dict[str, Any] = {}
    if Path(config.out).is_file() and set(config.figures) != set(FIGURES):
        old = read_fitted(config.out)
        if old.target.key != target.key:
            raise ConfigError(
                f"{config.out} holds models of {old.target.name!r}; name another file for {target.name!r}"
            )
        # The models that stay rest on the rates that they were fitted with.
        models, about, target = dict(old.models), dict(old.about), old.target
    errors: dict[str, float] = {}
    for figure in config.figures:
        models[figure], errors[figure] = _fitted(figure, trained, held, target, tdp_w, config)
        about[figure] = _about(runs, len(trained), len(held), len(test), config)
        say(f"{figure}: mean absolute log error {errors[figure]:.4f} on {len(trained)} layers")
    prepare_folder(Path(config.out).parent)
    write_fitted(config.out, Fitted(models=models, target=target, tdp_w=tdp_w, about=about))
    counts = {"train": len(trained), "held": len(held), "test": len(test)}
    return {"out": config.out, "layers": counts, "log_error": errors, "wall_s": time.perf_counter() - began}


def _fitted(
    figure: str, trained: list[Measured], held: list[Measured], target: Target, tdp_w: float, config: FitConfig
) -> tuple[LayerProxyModel, float]:
    seen, fresh = ([m for m in part if getattr(m, figure) is not None] for part in (trained, held))
    if not seen or not fresh:
        raise DataError(f"no layer was measured for {figure}")
    wanted, asked = (torch.tensor([getattr(m, figure) for m in part]) for part in (seen, fresh))
    table, other = (tabulate([m.layer for m in part], target) for part in (seen, fresh))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LayerProxyModel(figure, members=config.members, hidden=config.hidden, form=config.form)
    # A little room on both sides: a figure at its bound has no gradient.
    model.look_at(table.features, (0.9 * float(wanted.min()), max(tdp_w, 1.05 * float(wanted.max()))))
    specs = [m.layer for m in seen]
    if config.shown:
        kinds = [s.kind for s in specs]
        sizes = [(s.channels, s.tokens) for s in specs]
        teachers = Teachers(table.features, (wanted / bound_of(figure, table)).log(), kinds, sizes, seed=config.seed)
        # Sizes that were held back may be drawn too: the teacher knows no more of them than of any other.
        specs += sampled(SPACES["cpu" if target.kind == "cpu" else "gpu"], config.shown, seed=config.seed + 1)
        table = tabulate(specs, target)
        wanted = bound_of(figure, table) * teachers(table.features, [s.kind for s in specs]).exp()
    pairs = None if figure == "power_w" else _train.probes(specs, target, config.probes, config.seed)
    error = _train.train(
        model, table, wanted, pairs,
        steps=config.steps, batch=config.batch, lr=config.lr, decay=config.decay, seed=config.seed,
    )  # fmt: skip
    _train.calibrate(model, other, asked)
    return model, error


def _about(runs: Sequence[Run], train: int, held: int, test: int, config: FitConfig) -> dict[str, Any]:
    last = runs[-1] if runs else None
    return {
        "runs": [
            {"device": r.device, "commit": r.commit, "power_source": r.power_source, "idle_w": r.idle_w} for r in runs
        ],
        "protocol": None if last is None else last.protocol, "train": train, "held": held, "test": test,
        "config": {k: v for k, v in asdict(config).items() if k not in ("out",)},
    }  # fmt: skip
