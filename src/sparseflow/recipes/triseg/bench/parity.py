"""The same codes from every kernel: the segment function, fbgemm's layers, exported files, CUDA and the CPU."""

import copy
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.approximate import Metrics, TriSegResult
from sparseflow.compress.approximate.candidates import CandidateNet
from sparseflow.compress.quantize.integer_ops import IntegerLayer
from sparseflow.data import ImageSet
from sparseflow.errors import MeasurementError
from sparseflow.ops.int8_net import Engine, Program, Step, Value
from sparseflow.ops.int8_net.cpp import ABSENT
from sparseflow.ops.triseg import CODES, MODES, apply_tables, cpp, reference, tables
from sparseflow.recipes.checks import Check
from sparseflow.recipes.triseg.export import ExportConfig, export
from sparseflow.recipes.triseg.problem import Problem, inputs_of

__all__ = ["fbgemm_codes", "parity_checks", "random_params"]

_LEAST_EQUAL = 0.999
_AT_ONCE = 64


def parity_checks(
    problem: Problem, images: ImageSet, *, maps: int = 10_000, exported: int = 1000
) -> tuple[list[Check], dict[str, Any]]:
    """Count where kernels differ.

    Args:
        problem: the network; its codes are those that a search starts from.
        images: what layers are compared on.
        maps: random segment functions; all 256 codes of each.
        exported: images on which exported files are compared.

    Returns:
        The checks, and by layer how far fbgemm differs.
    """
    checks = _function(maps, next(problem.teacher.net.buffers()).device)
    found, layers = _fbgemm(problem, images)
    checks += [*found, *_exported(problem, exported), _scored(problem, images)]
    return checks, {"fbgemm": layers}


def random_params(count: int, *, seed: int) -> Tensor:
    """Return `[count, 5]` codes in order: any thresholds, any values up to tmax, equal ones among them."""
    g = torch.Generator().manual_seed(seed)
    tops = torch.randint(1, CODES, (count, 1), generator=g)
    thresholds = (torch.rand(count, 3, generator=g) * (tops + 1)).long().sort(dim=1).values
    values = (torch.rand(count, 2, generator=g) * (thresholds[:, 2:] + 1)).long().sort(dim=1).values
    (t1, t2, tmax), (v1, v2) = thresholds.T, values.T
    return torch.stack([t1, v1, t2, v2, tmax], dim=1)


def _function(maps: int, device: torch.device) -> list[Check]:
    axis, on_cuda = torch.arange(CODES), device.type == "cuda"
    # A GPU machine may do without compiled kernels, which CPUs compare.
    compiled = [name for name, absent in (("C++", cpp.ABSENT), ("engine", ABSENT)) if absent is None or not on_cuda]
    wrong = dict.fromkeys(["torch", *compiled, *(["Triton"] if on_cuda else [])], 0.0)
    for seed, mode in enumerate(MODES):
        params = random_params(maps, seed=seed)
        want = torch.tensor([[reference.tri_segment(q, row, mode) for q in range(CODES)] for row in params.tolist()])
        made = tables(params, mode)
        got = {"torch": apply_tables(axis.to(torch.uint8), made, shared=True, kernel="dense")}
        if cpp.ABSENT is None:
            got["C++"] = apply_tables(axis.to(torch.uint8), made, shared=True, kernel="cpp")
        if ABSENT is None:
            got["engine"] = torch.cat([_through_engine(axis, table) for table in made])
        if on_cuda:
            there = apply_tables(axis.to(device, torch.uint8), made.to(device), shared=True, kernel="triton")
            got["Triton"] = there.cpu()
        for name in wrong:
            wrong[name] += float((got[name].reshape(want.shape) != want).sum()) if name in got else float("nan")
    return [
        Check(show="4", name=f"segment function by {name}: of {CODES} codes in {len(MODES)} x {maps} random maps wrong",
              value=value, unit="codes", rule="==", bound=0.0)
        for name, value in wrong.items()
    ]  # fmt: skip


def _through_engine(axis: Tensor, table: Tensor) -> Tensor:
    """Return a table's codes of all codes, as the engine's own requantisation looks them up."""
    shape = (1, 16, 16)
    program = Program(
        input=shape,
        values=(Value(name="codes", shape=shape), Value(name="out", shape=shape, real=True)),
        steps=(
            Step(op="quantize", inputs=(), output=0, ratios=(1.0,), low=0, high=CODES - 1, table=table),
            Step(op="dequantize", inputs=(0,), output=1, ratios=(1.0,)),
        ),
        output=1,
        output_shape=shape,
    )
    return Engine(program)(axis.float().reshape(1, *shape)).reshape(1, CODES)


def _fbgemm(problem: Problem, images: ImageSet) -> tuple[list[Check], list[dict[str, Any]]]:
    net = copy.deepcopy(problem.teacher.net).cpu()
    rows: list[dict[str, Any]] = []

    def compare(layer: IntegerLayer, args: tuple[Tensor, ...], out: Tensor) -> None:
        want = fbgemm_codes(layer, args[0])
        far = (out - want).abs()
        rows.append({"layer": layer.path, "codes": far.numel(), "unequal": int((far > 0).sum()), "far": int(far.max())})

    compared = [m for m in net.modules() if isinstance(m, IntegerLayer) and m.target is not None]
    hooks = [layer.register_forward_hook(compare) for layer in compared]
    try:
        net(inputs_of(problem.teacher, images).cpu())
    finally:
        for hook in hooks:
            hook.remove()
    name = f"{problem.teacher.name}, {len(rows)} layers beside fbgemm's on their own inputs"
    count = sum(row["codes"] for row in rows)
    equal = 1 - sum(row["unequal"] for row in rows) / count if count else float("nan")
    far = max((float(row["far"]) for row in rows), default=float("nan"))
    return [
        Check(show="4", name=f"{name}: share of equal codes", value=equal, unit="", rule=">=", bound=_LEAST_EQUAL),
        Check(show="4", name=f"{name}: largest difference", value=far, unit="codes", rule="<=", bound=1.0),
    ], rows


def fbgemm_codes(layer: IntegerLayer, codes: Tensor) -> Tensor:
    """Return the codes that torch's own quantised layer makes of the same weights, clamped to the layer's range.

    Args:
        layer: with an output in codes, and zeros as padding.
        codes: float32 `[N, ...]` on the CPU.

    Raises:
        MeasurementError: this torch has no fbgemm.
    """
    assert layer.target is not None
    before = torch.backends.quantized.engine
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise MeasurementError("this torch has no fbgemm to compare with")
    ops: Any = torch.ops.quantized
    step = layer.step.flatten().expand(len(layer.weight)).contiguous()
    scales, zeros = step.double() / layer.source.scale, torch.zeros(len(layer.weight), dtype=torch.long)
    with warnings.catch_warnings():
        # torch says of its quantised types that they are to go.
        warnings.simplefilter("ignore")
        weight = torch._make_per_channel_quantized_tensor(layer.weight.to(torch.int8).contiguous(), scales, zeros, 0)
        x = torch._make_per_tensor_quantized_tensor(codes.to(torch.uint8), layer.source.scale, layer.source.zero_point)
    bias, target, end = (
        layer.bias.flatten() * step,
        layer.target,
        "_relu" if layer.low >= layer.target.zero_point else "",
    )
    torch.backends.quantized.engine = "fbgemm"
    try:
        if not layer.call:
            packed = ops.linear_prepack(weight, bias)
            made = getattr(ops, f"linear{end}")(x, packed, target.scale, target.zero_point)
        else:
            c = layer.call
            if c["pad"]:
                raise MeasurementError(f"{layer.path} pads with other than zeros, which fbgemm does not")
            window = [list(c[k]) for k in ("stride", "padding", "dilation")]
            packed = ops.conv2d_prepack(weight, bias, *window, c["groups"])
            made = getattr(ops, f"conv2d{end}")(x, packed, target.scale, target.zero_point)
    finally:
        torch.backends.quantized.engine = before
    found: Tensor = made.int_repr().float().clamp(layer.low, layer.high)
    return found


def _exported(problem: Problem, images: int) -> list[Check]:
    """Export the network with the codes that searches start from, and compare plan and C program with Python."""
    teacher = problem.teacher
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "start.json"
        TriSegResult.of(
            problem.names, problem.start.cpu(), backend="fbgemm", model=teacher.name, selection="the start",
            metrics=Metrics.of(0.0, 0.0), overflow=problem.overflow, split="val",
        ).write(path)  # fmt: skip
        config = ExportConfig(
            model=str(teacher.source), out=folder, config_path=str(path), folder=f"{folder}/e", images=images
        )
        try:
            found: dict[str, Any] = export(config, splits=problem.splits)["checks"]
        except MeasurementError as e:
            found = {"plan and C sources": str(e)}
    return [
        Check(show="4", name=f"{teacher.name}, exported, by {kind}: of {one['images']} images unlike Python's",
              value=float(one["unequal"]), unit="images", rule="==", bound=0.0)
        if isinstance(one, dict)
        else Check(show="4", name=f"{teacher.name}, exported, by {kind}: {one}", value=float("nan"), unit="images",
                   rule="==", bound=0.0)
        for kind, one in found.items()
        if isinstance(one, dict) or not next(teacher.net.buffers()).is_cuda
    ]  # fmt: skip


@torch.no_grad()
def _scored(problem: Problem, images: ImageSet) -> Check:
    """Compare the codes of the path that scores candidates, where it runs, with the plain network's on the CPU."""
    here, device = copy.deepcopy(problem.teacher.net).cpu(), next(problem.teacher.net.buffers()).device
    points = [site.node for site in problem.sites]
    made = tables(problem.start.cpu(), problem.overflow)
    bytewise = CandidateNet(problem.teacher.net, points, taps=points)
    unlike = 0
    for x in torch.split(inputs_of(problem.teacher, images), _AT_ONCE):
        got: dict[str, Tensor] = {}

        def tap(point: str, codes: Tensor, _: Tensor | None, got: dict[str, Tensor] = got) -> None:
            got[point] = codes

        bytewise.run(bytewise.begin(x), made[None].to(device), tap)
        want: dict[str, Tensor] = {}

        def edit(codes: Tensor, point: str, table: Tensor, want: dict[str, Tensor] = want) -> Tensor:
            want[point] = codes
            return apply_tables(codes, table)

        here(x.cpu(), edits={p: partial(edit, point=p, table=t) for p, t in zip(points, made, strict=True)})
        unlike += sum(int((got[p].cpu().float() != want[p]).sum()) for p in points)
    name = f"{problem.teacher.name}, {len(images)} images, {len(points)} sites: codes of scores on {device.type}"
    return Check(
        show="4",
        name=f"{name} unlike the plain network's on cpu",
        value=float(unlike),
        unit="codes",
        rule="==",
        bound=0.0,
    )
