"""Promises held to: damaged weights are refused by name, published ones give their forecasts, kills leave no trace."""

import json
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sparseflow.errors import DataError, MeasurementError
from sparseflow.nn.models.cmamba import CMamba, build_model, load_weights, save_weights
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.forecast.checkpoint import load_forecaster
from sparseflow.recipes.forecast.config import ForecastConfig
from sparseflow.recipes.forecast.parity import parity
from sparseflow.recipes.forecast.train import train_forecaster
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["SUITES", "check_forecast", "damaged_files", "refusals", "revival"]

_MENDS = ("take a", "build the network", "convert the file", "copy or download", "save the state dict", "store numbers")
_A, _B = "encoder.layers.0.mixer.A_log", "head.linear.bias"
_WAIT_S = 600.0
_TRAIN = (
    "import json, sys; from sparseflow.recipes.forecast import ForecastConfig, train_forecaster; "
    "train_forecaster(ForecastConfig.from_dict(json.loads(sys.argv[1])), progress=False)"
)

Tensors = dict[str, Tensor]


def check_forecast(
    suites: tuple[str, ...] = ("files", "parity", "resume"), *, device: str = "cpu", out: str | Path | None = None
) -> dict[str, Any]:
    """Hold the promises, in a folder that is removed.

    Args:
        suites: names of `SUITES`.
        device: of the trainings; bit-equality is promised on the CPU.
        out: file for the JSON, or None.

    Returns:
        The checks, whether all hold, what was found under the name of each suite, and where and how long.

    Raises:
        ConfigError: no suite.
    """
    began = time.perf_counter()
    checks: list[Check] = []
    found: dict[str, Any] = {}
    for name in suites:
        with tempfile.TemporaryDirectory() as folder:
            held, found[name] = SUITES[name](Path(folder), device)
        checks += held
    body = checks_body(checks, **found, environment=describe(), wall_s=time.perf_counter() - began)
    if out is not None:
        prepare_folder(Path(out).parent)
        write_atomic(out, json.dumps(body, indent=1, allow_nan=False) + "\n")
    return body


def damaged_files(model: CMamba, folder: Path) -> dict[str, tuple[str, Path]]:
    """Write 20 files of the weights of a network, each with one fault; return the key at fault and the file of each."""
    good: Tensors = {k: t.detach().clone() for k, t in model.state_dict().items()}

    def with_(key: str, how: Callable[[Tensor], Tensor]) -> Tensors:
        return {**good, key: how(good[key])}

    def poisoned(value: float) -> Tensors:
        return with_(_B, lambda t: torch.cat([t[:-1], t.new_tensor([value])]))

    bad: dict[str, tuple[str, Tensors]] = {
        "a bias is missing": (_B, {k: t for k, t in good.items() if k != _B}),
        "a block is missing": (_A, {k: t for k, t in good.items() if "layers.0." not in k}),
        "all is missing": (_B, {}),
        "a block too many": (
            "encoder.layers.99.mixer.A_log",
            {**good, "encoder.layers.99.mixer.A_log": good[_A].clone()},
        ),
        "a name is another": ("head.bias", {k.replace("linear.bias", "bias"): t for k, t in good.items()}),
        "transposed": (_A, with_(_A, lambda t: t.T.contiguous())),
        "a row too many": (_B, with_(_B, lambda t: torch.cat([t, t[:1]]))),
        "flattened": ("head.linear.weight", with_("head.linear.weight", lambda t: t.reshape(-1))),
        "emptied": (_A, with_(_A, lambda t: t[:0])),
        "float64": (_A, with_(_A, Tensor.double)),
        "float16": (_A, with_(_A, Tensor.half)),
        "whole numbers": (_A, with_(_A, Tensor.int)),
        "NaN": (_B, poisoned(float("nan"))),
        "infinite": (_B, poisoned(float("inf"))),
    }
    files: dict[str, tuple[str, Path]] = {}
    for i, (name, (key, tensors)) in enumerate(bad.items()):
        path = folder / f"{i}.safetensors"
        save_file(tensors, path)
        files[name] = key, path
    key = "head.linear.weight"
    for ending in ("safetensors", "npz", "pt"):
        path = folder / f"cut.{ending}"
        save_weights(path, model)
        data = path.read_bytes()
        spot = data.find(good[key].numpy().tobytes())
        path.write_bytes(data[: spot + 7])
        files[f"cut off, .{ending}"] = key, path
    flipped = bytearray(data)
    flipped[spot + 5] ^= 1
    (folder / "flipped.pt").write_bytes(bytes(flipped))
    files["one bit flipped"] = key, folder / "flipped.pt"
    torch.save({**good, "head.more": _Bomb()}, folder / "pickle.pt")
    files["a pickle, .pt"] = "head.more", folder / "pickle.pt"
    arrays: dict[str, Any] = {k: t.numpy() for k, t in good.items()}
    np.savez(folder / "pickle.npz", **{**arrays, "head.more": np.array([_Bomb()], dtype=object)})
    files["a pickle, .npz"] = "head.more", folder / "pickle.npz"
    return files


class _Bomb:
    """What a hostile file would run when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (open, ("/nonexistent/ran",))


def refusals(folder: Path, device: str = "cpu") -> tuple[list[Check], list[dict[str, Any]]]:
    """Load 20 damaged files into a network; each must be refused by an error that names the key and the mend.

    The network is the forecaster that ships, or a fresh one of its sizes where none does.

    Args:
        folder: for the files.
        device: not used.
    """
    try:
        model = load_forecaster("cmamba_etth1_96").model
    except DataError:
        model = build_model(ForecastConfig().network(7))
    before = {k: t.clone() for k, t in model.state_dict().items()}
    rows: list[dict[str, Any]] = []
    for name, (key, path) in damaged_files(model, folder).items():
        try:
            load_weights(model, path)
            said = ""
        except DataError as e:
            said = str(e).replace(str(folder), "")
        except (pickle.UnpicklingError, RuntimeError, OSError, ValueError) as e:
            said = f"{type(e).__name__} instead of an error of ours"
            key = "\0"
        same = all(torch.equal(t, before[k]) for k, t in model.state_dict().items())
        mend = any(m in said for m in _MENDS)
        rows.append(
            {"fault": name, "refused": bool(said), "key": key in said, "mend": mend, "same": same, "said": said}
        )
    wants = {
        "refused": "refused",
        "key": "key named",
        "mend": "mend named",
        "same": "network left as it was",
    }
    checks = [
        Check(
            show="5",
            name=f"of {len(rows)} damaged files, {what}",
            value=sum(bool(row[k]) for row in rows),
            unit="",
            rule="==",
            bound=20,
        )
        for k, what in wants.items()
    ]
    return checks, rows


def revival(
    folder: Path, device: str = "cpu", *, config: ForecastConfig | None = None
) -> tuple[list[Check], dict[str, Any]]:
    """Train twice with the same seed, one of them killed in the middle of an epoch and started again.

    Args:
        folder: for both runs.
        device: of both.
        config: what to train; None for a small network on the first windows of ETTh1.

    Raises:
        MeasurementError: the first start did not come as far as it is to be killed.
    """
    small = {"d_model": 16, "n_layer": 1, "d_state": 4}
    config = config or ForecastConfig(model_args=small, train_limit=1280, epochs=4, patience=4, eval_batch=1024)
    whole = train_forecaster(replace(config, device=device, out=str(folder / "whole")), progress=False)
    cut = replace(config, device=device, out=str(folder / "cut"))
    code = _killed(cut)
    seen = len((cut.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    again = train_forecaster(cut, progress=False)
    a, b = (load_forecaster(r["file"]).model.state_dict() for r in (whole, again))
    other = sum(not torch.equal(a[k], b[k]) for k in a)
    gap = max(
        abs(p[k] - q[k]) for p, q in zip(whole["history"], again["history"], strict=True) for k in ("loss", "val")
    )
    error = abs(whole["test"]["mse"] - again["test"]["mse"])
    facts: Mapping[str, tuple[float, str]] = {
        "exit of the killed run, SIGKILL": (-code, "signal"),
        "loss of any epoch, difference": (gap, ""),
        "MSE on the test, difference": (error, ""),
        "tensors that differ in a bit": (other, ""),
    }
    bounds = {"exit of the killed run, SIGKILL": int(signal.SIGKILL)}
    checks = [
        Check(show="6", name=name, value=value, unit=unit, rule="==", bound=bounds.get(name, 0))
        for name, (value, unit) in facts.items()
    ]
    return checks, {"epochs": whole["epochs"], "epochs_before_the_kill": seen, "test": whole["test"]}


def _killed(config: ForecastConfig) -> int:
    """Start a training in a process of its own, kill it after its second epoch, and return its exit status."""
    process = subprocess.Popen([sys.executable, "-c", _TRAIN, json.dumps(config.to_dict(all=True))])
    metrics, until = config.folder / "metrics.jsonl", time.monotonic() + _WAIT_S
    try:
        while not metrics.exists() or len(metrics.read_text(encoding="utf-8").splitlines()) < 2:
            if process.poll() is not None or time.monotonic() > until:
                raise MeasurementError("the training that was to be killed ended, or did not get to its second epoch")
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    return process.returncode


SUITES: Mapping[str, Callable[[Path, str], tuple[list[Check], Any]]] = {
    "files": refusals,
    "parity": parity,
    "resume": revival,
}
"""What can be checked, by name."""
