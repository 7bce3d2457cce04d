"""The forecaster in integers against float32 on a CPU: one window, whole, in one run with every rival."""

import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sparseflow.compress.quantize import calibrate_forecaster
from sparseflow.cost.dense import compiler_available
from sparseflow.cost.measure import Timing, ratio
from sparseflow.errors import UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, IntRef, ModelArgs, lower
from sparseflow.nn.models.cmamba.int_engine import IntEngine
from sparseflow.recipes.checks import Check
from sparseflow.recipes.forecast.bench import rival
from sparseflow.recipes.threads import with_threads

__all__ = ["IntegerRow", "integer_checks"]

FASTER = 5.0
_VARIATES, _WINDOWS, _OPSET = 7, 32, 17
_REST_S, _BLOCK_S, _AWAKE = 0.1, 0.02, 3
_OURS = "integers, C++"
_BESIDE = "float32, C++"  # ours too, and no rival


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerRow:
    """One measurement of the network of ETTh1-96, one window at a time.

    Args:
        threads: of every side.
        seconds: median time by side.
        ratios: how many times faster the integers are, by side: the median of the times of a round over each other.
        wrong: numbers of a forecast of 32 windows that differ from the integer reference.
        failures: sides that do not run, with reasons.
    """

    threads: int
    seconds: dict[str, float]
    ratios: dict[str, float]
    wrong: int
    failures: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def integer_checks(
    threads: tuple[int, ...], *, repeats: int, compile: bool = True, progress: bool = True
) -> tuple[list[Check], list[IntegerRow]]:
    """Time one forecast in integers against plain torch, torch.compile, and onnxruntime in float32 and INT8.

    Args:
        threads: counts, each measured in turn.
        repeats: rounds of a measurement.
        compile: let torch.compile make a forecast of plain torch, too.
        progress: show a bar.

    Raises:
        UnsupportedError: the compiled kernels are missing.
    """
    torch.manual_seed(0)
    args = ModelArgs.paper(_VARIATES)
    model = CMamba(args).eval()
    windows = torch.randn(_WINDOWS, _VARIATES, args.seq_len)
    spec = calibrate_forecaster(model, [windows])
    arrays = lower(args, {name: p.detach().numpy() for name, p in model.named_parameters()}, spec)
    engine = IntEngine(args, arrays)
    wrong = int((engine.codes(windows) != IntRef(args, arrays).codes(windows)).sum())
    rows = []
    for count in tqdm(threads, desc="integers against float32", disable=None if progress else True):
        with with_threads(count), tempfile.TemporaryDirectory() as folder:
            failures: dict[str, str] = {}
            sides = _torch_sides(model, engine, windows, compile and compiler_available())
            sides |= _onnx_sides(model, windows, Path(folder), failures)
            timings = _in_blocks(sides, repeats=repeats, failures=failures)
        ratios = {name: ratio(timings, name, _OURS) for name in timings if name != _OURS}
        seconds = {name: t.median_s for name, t in timings.items()}
        rows.append(IntegerRow(threads=count, seconds=seconds, ratios=ratios, wrong=wrong, failures=failures))
    return _checks(rows), rows


def _in_blocks(sides: Mapping[str, Callable[[], Any]], *, repeats: int, failures: dict[str, str]) -> dict[str, Timing]:
    """Time sides in rounds, each in a block of calls of its own with a rest before it.

    Threads of onnxruntime and OpenMP spin for tens of milliseconds after a call. Where calls of different sides take
    turns, that holds up whoever comes next; a program that forecasts runs one of them alone.
    """
    calls: dict[str, int] = {}
    for name, side in sides.items():
        try:
            side()
            began = time.perf_counter()
            side()
            calls[name] = max(1, math.ceil(_BLOCK_S / max(time.perf_counter() - began, 1e-6)))
        except Exception as e:
            failures[name] = f"{type(e).__name__}: {e}"[:300]
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, count in calls.items():
            time.sleep(_REST_S)
            for _ in range(_AWAKE):
                sides[name]()
            began = time.perf_counter()
            for _ in range(count):
                sides[name]()
            found[name].append((time.perf_counter() - began) / count)
    return {name: Timing.of(times) for name, times in found.items()}


def _checks(rows: list[IntegerRow]) -> list[Check]:
    checks = []
    for row in rows:
        where = f"one forecast, {row.threads} thread{'s' if row.threads > 1 else ''}"
        for name in [*row.ratios, *row.failures]:
            if name == _BESIDE:
                continue
            bound = FASTER if name == "plain torch" else 1.0
            value = row.ratios.get(name, float("nan"))
            checks.append(Check(show="3", name=f"{where}, over {name}", value=value, unit="x", rule=">=", bound=bound))
    name = f"numbers of {_WINDOWS} forecasts unlike the reference"
    wrong = max(row.wrong for row in rows)
    checks.append(Check(show="1", name=name, value=wrong, unit="numbers", rule="==", bound=0))
    return checks


class _Plain(nn.Module):
    """The network in plain torch; its weights are parameters, so that exporters see them as such."""

    def __init__(self, model: CMamba) -> None:
        super().__init__()
        self.args = model.args
        self.names = [n for n, _ in (*model.named_parameters(), *model.named_buffers())]
        values = [v.detach() for _, v in (*model.named_parameters(), *model.named_buffers())]
        self.values = nn.ParameterList(nn.Parameter(v.clone(), requires_grad=False) for v in values)

    def forward(self, x: Tensor) -> Tensor:
        weights = dict(zip(self.names, self.values, strict=True))
        return rival.forecast(self.args, weights, x, rival.one_after_the_other)


def _torch_sides(model: CMamba, engine: IntEngine, windows: Tensor, compile: bool) -> dict[str, Callable[[], Any]]:
    plain, x = _Plain(model), windows[:1]
    array = x.numpy()

    def call(f: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.no_grad():
                return f(x)

        return run

    sides: dict[str, Callable[[], Any]] = {_OURS: lambda: engine(array), "plain torch": call(plain)}
    if compile:
        sides["plain torch, compiled"] = call(torch.compile(plain, dynamic=False))
    sides[_BESIDE] = call(model)
    return sides


def _onnx_sides(model: CMamba, windows: Tensor, folder: Path, failures: dict[str, str]) -> dict[str, Callable[[], Any]]:
    array = windows[:1].numpy()
    sides: dict[str, Callable[[], Any]] = {}
    try:
        for name, session in _sessions(_Plain(model), windows, folder).items():
            sides[name] = partial(session.run, None, {"x": array})
    except (ImportError, UnsupportedError) as e:
        failures["onnxruntime"] = f"{e}; pip install onnx onnxruntime"
    return sides


def _sessions(plain: _Plain, windows: Tensor, folder: Path) -> dict[str, Any]:
    """Return onnxruntime's sessions: float32, INT8 with scales found at run time, and INT8 with calibrated ones."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Windows(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows: Iterator[dict[str, Any]] = iter([{"x": w.numpy()} for w in torch.split(windows, 1)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rows, None)

    files = {name: str(folder / f"{name}.onnx") for name in ("float32", "ready", "dynamic", "static")}
    with _exporting(plain.args), _quietly():
        torch.onnx.export(
            plain, (windows[:1],), files["float32"], dynamo=False, input_names=["x"], output_names=["y"],
            opset_version=_OPSET,
        )  # fmt: skip
        quant_pre_process(files["float32"], files["ready"])
        quantize_dynamic(files["ready"], files["dynamic"], weight_type=QuantType.QInt8)
        quantize_static(
            files["ready"], files["static"], Windows(), per_channel=True, weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8, op_types_to_quantize=["MatMul", "Gemm"],
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    found = {}
    names = {"float32": "float32", "dynamic": "INT8, dynamic", "static": "INT8, calibrated"}
    for kind, told in names.items():
        session = onnxruntime.InferenceSession(files[kind], options, providers=["CPUExecutionProvider"])
        found[f"onnxruntime {told}"] = session
    want = found["onnxruntime float32"].run(None, {"x": windows[:1].numpy()})[0]
    with torch.no_grad():
        apart = float(np.abs(want - plain(windows[:1]).numpy()).max())
    if not apart < 1e-4:
        raise UnsupportedError(f"onnxruntime's float32 forecast is {apart:.3g} from torch's, so it is no rival")
    return found


@contextmanager
def _exporting(args: ModelArgs) -> Iterator[None]:
    """Tell torch's exporter two operations that it lacks, for this network."""
    index = torch.arange(args.num_patches)[:, None] * args.stride + torch.arange(args.patch_len)

    def unfold(g: Any, x: Any, *_: Any) -> Any:
        return g.op("Gather", x, g.op("Constant", value_t=index), axis_i=2)

    def rms_norm(g: Any, x: Any, shape: Any, weight: Any, eps: Any) -> Any:
        del shape, eps
        least = g.op("Constant", value_t=torch.tensor(args.eps))
        mean = g.op("ReduceMean", g.op("Mul", x, x), axes_i=[-1], keepdims_i=1)
        return g.op("Mul", g.op("Div", x, g.op("Sqrt", g.op("Add", mean, least))), weight)

    added = {"aten::unfold": unfold, "aten::rms_norm": rms_norm}
    for name, symbol in added.items():
        torch.onnx.register_custom_op_symbolic(name, symbol, _OPSET)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name in added:
            torch.onnx.unregister_custom_op_symbolic(name, _OPSET)  # type: ignore[attr-defined]


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence what exporters and quantisers say about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
