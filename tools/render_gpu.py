"""Tables of one stage of a GPU record, as Markdown."""

from collections.abc import Mapping
from typing import Any

__all__ = ["NOTHING", "STAGES", "stage_table"]

NOTHING = "Not measured yet."

# Heading, key of the row, format; "us" and "ms" are times, "x" a ratio, "%" a share, "MB" bytes.
STAGES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "blocks": (
        ("block", "block", ""), ("spikes", "density", "%"), ("best dense", "rival", ""), ("its µs", "rival_us", ".1f"),
        ("our kernel", "kernel", ""), ("our µs", "ours_us", ".1f"), ("over dense", "ratio", "x"),
    ),
    "seed": (
        ("layer", "layer", ""), ("sparse", "sparsity", "%"), ("table", "claimed", "x"), ("eager µs", "eager_us", ".0f"),
        ("our µs", "ours_us", ".1f"), ("over eager", "over_eager", "x"), ("SpikingJelly µs", "spikingjelly_us", ".0f"),
        ("compiled bf16 µs", "compiled_us", ".1f"), ("over compiled", "over_compiled", "x"),
        ("two stages over its convolution, scattered", "two_stage_scattered_over_conv", "x"),
        ("in whole tiles", "two_stage_tiles_over_conv", "x"),
    ),
    "network": (
        ("network", "network", ""), ("images", "batch", "d"), ("best dense", "rival", ""),
        ("its ms", "rival_ms", ".3f"), ("eager float32 ms", "eager_ms", ".2f"),
        ("our ms", "ours_ms", ".3f"), ("called", "ours_called_ms", ".3f"), ("over dense", "over_dense", "x"),
        ("over eager", "over_eager", "x"), ("same top-1", "top1_equal", "%"),
        ("our J an image", "energy.ours.joules_an_image", ".3g"),
        ("dense J an image", "energy.dense.joules_an_image", ".3g"),
    ),
    "memory": (
        ("network", "network", ""), ("eager float32", "dense_bytes", "MB"), ("ours", "ours_bytes", "MB"),
        ("less by", "ratio", "x"),
    ),
    "coverage": (
        ("builder", "name", ""), ("outcome", "outcome", ""), ("layers replaced", "replaced", "d"),
        ("of", "layers", "d"), ("best dense", "rival", ""), ("over dense", "ratio", "x"),
    ),
}  # fmt: skip


def stage_table(body: Mapping[str, Any], stage: str) -> str:
    """Return the rows of one stage of a record.

    Args:
        body: a record of the GPU bench.
        stage: a key of `STAGES`.
    """
    found = body.get("stages", {}).get(stage)
    if not found or not found["rows"]:
        return NOTHING
    rows = found["rows"]
    columns = [c for c in STAGES[stage] if any(_value(row, c[1]) is not None for row in rows)]
    lines = [
        f"| {' | '.join(heading for heading, _, _ in columns)} |",
        f"|{'|'.join('---' if form == '' else '--:' for _, _, form in columns)}|",
    ]
    lines += [f"| {' | '.join(_cell(_value(row, key), form) for _, key, form in columns)} |" for row in rows]
    about = [
        body.get("device", ""),
        f"commit {found['commit']}" if found.get("commit") else "",
        found.get("when") or "",
    ]
    note = "; ".join(str(part) for part in about if part)
    if body.get("quick"):
        note += "; a quick run"
    return "\n".join([*lines, "", f"<sub>{note}</sub>"])


def _value(row: Mapping[str, Any], key: str) -> Any:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _cell(value: Any, form: str) -> str:
    if value is None:
        return ""
    if form == "":
        return str(value)
    if form == "x":
        return f"{value:.3g}×"
    if form == "%":
        return f"{100 * value:.4g} %"
    if form == "MB":
        return f"{value / 2**20:.0f} MiB"
    return format(int(value) if form == "d" else value, form)
