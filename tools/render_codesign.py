"""The tables of co-design, a joint loop beside its rivals and a pipeline's segments, as Markdown."""

import statistics
from collections.abc import Mapping
from typing import Any

__all__ = ["CODESIGN", "rivals"]

_ARMS = {
    "full": "joint loop",
    "two_stage": "first the network, then the wafer",
    "fixed4": "joint, four fixed chips",
    "two_stage_matched": "first the network, told the joint loop's share of tokens",
}


def rivals(body: Mapping[str, Any]) -> str:
    """Return what each arm came to over its seeds: energy-delay product, time, energy, accuracy, tokens, dies.

    Args:
        body: what `sparseflow codesign bench --suite joint` writes.
    """
    found = body["suites"]["joint"]
    lines = [
        "| arm | EDP, mJ·ms | of the joint loop's | ms | mJ | top-1 | tokens | dies, mm² | seeds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    base = found["means"]["full"]["edp"]
    for arm, name in _ARMS.items():
        rows = [r for r in found["rows"] if r["arm"] == arm]
        if not rows:
            continue
        edp = found["means"][arm]["edp"]

        def mean(key: str, of: list[Mapping[str, Any]] = rows) -> float:
            return statistics.fmean(r[key] for r in of)

        cells = [
            f"{edp:.4g}",
            f"{edp / base:.2f}×",
            f"{mean('latency_ms'):.3g}",
            f"{mean('energy_mj'):.3g}",
            f"{100 * found['means'][arm]['top1']:.2f} %",
            f"{statistics.fmean(r['keeps']['token'] for r in rows):.0%}",
            f"{mean('chips'):.1f}, {mean('area_mm2'):.0f}",
            str(len(rows)),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"<sub>Costs of layers: {found['proxy']}. EDP is the geometric mean.</sub>"])


CODESIGN = {"rivals": rivals}
