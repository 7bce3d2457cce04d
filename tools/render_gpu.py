"""Tables of one stage of a GPU record, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["GPU", "NOTHING", "STAGES", "headline", "stage_table"]

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


HEADLINE = (
    ("network", "network", ""), ("images", "batch", "d"), ("best dense ms", "rival_ms", ".3f"),
    ("our ms", "ours_ms", ".3f"), ("over dense", "over_dense", "x"), ("over eager float32", "over_eager", "x"),
)  # fmt: skip


def headline(body: Mapping[str, Any]) -> str:
    """Return whole networks in the default precision, and how many checks of the record hold.

    Args:
        body: a record of the GPU bench.
    """
    rows = [row for row in body["stages"]["network"]["rows"] if row.get("over_eager") is not None]
    held = sum(check["ok"] for check in body["checks"])
    return "\n".join(
        [
            *_lines(rows, HEADLINE),
            "",
            f"{held} of {len(body['checks'])} checks of the benchmark hold.",
            "",
            _about(body, "network"),
        ]
    )


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
    return "\n".join([*_lines(rows, columns), "", _about(body, stage)])


def _lines(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str, str]]) -> list[str]:
    return [
        f"| {' | '.join(heading for heading, _, _ in columns)} |",
        f"|{'|'.join('---' if form == '' else '--:' for _, _, form in columns)}|",
        *(f"| {' | '.join(_cell(_value(row, key), form) for _, key, form in columns)} |" for row in rows),
    ]


def _about(body: Mapping[str, Any], stage: str) -> str:
    found = body["stages"][stage]
    commit = f"commit {found['commit']}" if found.get("commit") else ""
    parts = (body.get("device", ""), commit, found.get("when") or "", "a quick run" if body.get("quick") else "")
    return f"<sub>{'; '.join(str(part) for part in parts if part)}</sub>"


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


GPU = {"headline": headline}
