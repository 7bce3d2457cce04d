"""A record of the GPU bench as short plain tables."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["tables"]

COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "blocks": (
        ("block", ""), ("density", ".0%"), ("rival", ""), ("rival_us", ".1f"), ("kernel", ""), ("ours_us", ".1f"),
        ("ratio", ".2f"),
    ),
    "seed": (
        ("layer", ""), ("sparsity", ".2%"), ("claimed", ".1f"), ("eager_us", ".0f"), ("spikingjelly_us", ".0f"),
        ("compiled_us", ".1f"), ("ours_us", ".1f"), ("over_eager", ".1f"), ("over_compiled", ".2f"),
        ("conv_scattered_us", ".0f"),
        ("two_stage_scattered_us", ".0f"), ("two_stage_tiles_us", ".0f"),
    ),
    "network": (
        ("network", ""), ("batch", "d"), ("rival", ""), ("rival_ms", ".3f"), ("eager_ms", ".2f"), ("ours_ms", ".3f"),
        ("ours_called_ms", ".3f"),
        ("over_dense", ".2f"), ("over_eager", ".1f"), ("top1_equal", ".4f"), ("refused", ""),
    ),
    "memory": (("network", ""), ("dense_bytes", "d"), ("ours_bytes", "d"), ("ratio", ".1f")),
    "coverage": (
        ("name", ""), ("outcome", ""), ("replaced", "d"), ("layers", "d"), ("rival", ""), ("ratio", ".2f"),
    ),
}  # fmt: skip


def tables(body: Mapping[str, Any], stages: Sequence[str] | None = None) -> str:
    """Return the rows of the stages, then the checks.

    Args:
        body: a record.
        stages: which stages; all if None.
    """
    parts = []
    for name, stage in body["stages"].items():
        if stages is not None and name not in stages:
            continue
        if name in COLUMNS and stage["rows"]:
            parts.append(f"## {name}\n{_grid(stage['rows'], COLUMNS[name])}")
        if stage["errors"]:
            parts.append("\n".join(f"!! {name}: {k}: {v[:300]}" for k, v in stage["errors"].items()))
    lines = []
    for check in body["checks"]:
        value = "-" if check["value"] is None else f"{check['value']:.5g}"
        lines.append(
            f"{'ok  ' if check['ok'] else 'FAIL'} {check['name']}: {value} {check['unit']} ({check['target']})"
        )
    kept = sum(c["ok"] for c in body["checks"])
    return "\n\n".join([*parts, "\n".join(lines), f"{kept} of {len(lines)} checks hold"])


def _grid(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> str:
    cells = [[name for name, _ in columns], *([_cell(row.get(name), form) for name, form in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    if not form or isinstance(value, str):
        return str(value)
    return format(int(value) if form == "d" else float(value), form)
