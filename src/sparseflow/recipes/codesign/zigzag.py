"""ZigZag's and Stream's workloads in YAML as layers: each entry gives its loops, their sizes and their strides."""

import math
import re
from pathlib import Path
from typing import Any

import yaml

from sparseflow.errors import DataError
from sparseflow.hardware.proxy import LayerSpec

__all__ = ["read_zigzag"]

_STEP = re.compile(r"i[xy]\s*=\s*(\d+)?\s*\*?\s*o([xy])")
_PRODUCT_DIMS = {"B", "D", "C", "K"}


def read_zigzag(path: str | Path, *, precision: str = "float32", batch: int = 1) -> tuple[LayerSpec, ...]:
    """Return the layers of a ZigZag workload: convolutions and matrix products as such, all else as operators.

    Loops are B (samples), G (groups), K and C (output and input channels of a group), OY, OX, FY, FX, and D (rows of a
    matrix). The input of a convolution is taken without padding, stride·outputs a side.

    Args:
        path: YAML list of layers with `operator_type`, `loop_dims` and `loop_sizes`.
        precision: of weights and activations.
        batch: samples in place of those of the file.

    Raises:
        DataError: the file cannot be read or is no such list; names the layer.
    """
    try:
        body = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise DataError(f"cannot read workload {path}: {e}") from e
    if not isinstance(body, list) or not body:
        raise DataError(f"{path} is no ZigZag workload: expected a list of layers")
    found: list[LayerSpec] = []
    for entry in body:
        name = f"layer {entry.get('id', len(found))}" if isinstance(entry, dict) else "a layer"
        try:
            found.append(_layer(entry, precision, batch))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise DataError(
                f"{path}, {name}: {type(e).__name__} {e}; expected operator_type, loop_dims and sizes"
            ) from e
    return tuple(found)


def _layer(entry: dict[str, Any], precision: str, batch: int) -> LayerSpec:
    dims = dict(zip((str(d).upper() for d in entry["loop_dims"]), map(int, entry["loop_sizes"]), strict=True))
    kind = str(entry["operator_type"]).lower()
    n = {d: dims.get(d, 1) for d in ("G", "K", "C", "OY", "OX", "FY", "FX", "D")}
    name = f"{entry.get('id', '')}:{entry.get('name', kind)}"
    common: dict[str, Any] = {"name": name, "precision": precision, "batch": batch}
    positions, taps = n["OY"] * n["OX"], n["FY"] * n["FX"]
    if kind.startswith("conv") and positions * taps > 1:
        steps = {axis: int(step or 1) for step, axis in _STEP.findall(str(entry.get("dimension_relations", "")))}
        tokens = positions * steps.get("x", 1) * steps.get("y", 1)
        attrs = (("groups", n["G"]), ("in_channels", n["G"] * n["C"]), ("in_tokens", tokens), ("taps", taps))
        return LayerSpec(kind="conv", tokens=positions, channels=n["G"] * n["K"], attrs=attrs, **common)
    if kind.startswith(("conv", "gemm", "matmul", "fc")):
        # Loops that are none of a plain product, as heads of an attention, repeat it.
        more = math.prod(size for d, size in dims.items() if d not in _PRODUCT_DIMS)
        rows = n["D"] * more
        return LayerSpec(kind="other", tokens=rows, channels=n["K"], attrs=(("in_features", n["C"]),), **common)
    channels = max(n["G"] * n["K"], 1)
    flops = float(channels * positions * n["D"] * taps)
    return LayerSpec(kind="other", tokens=positions * n["D"], channels=channels, attrs=(("flops", flops),), **common)
