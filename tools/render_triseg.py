"""Tables of the records of tri-segment search: searchers side by side, and networks that went the whole way."""

import statistics
from collections.abc import Mapping
from typing import Any

__all__ = ["TRISEG", "networks", "searchers"]

_AFTER = (100, 300, 600)


def searchers(body: Mapping[str, Any]) -> str:
    """Return the median best reward of every searcher after some evaluations, as a Markdown table.

    Args:
        body: with "search", which has "rows" of one budget, "start_reward", and "documented", longer runs beside them.
    """
    found = body["search"]
    after = [count for count in _AFTER if all(str(count) in row["best"] for row in found["rows"])]
    groups: dict[str, list[Mapping[str, float]]] = {}
    for row in found["rows"]:
        groups.setdefault(row["method"], []).append(row["best"])
    seeds = len({row["seed"] for row in found["rows"]})
    heads = " | ".join(f"after {count}" for count in after)
    lines = [f"| searcher, median reward of {seeds} seeds | {heads} |", f"|---|{'--:|' * len(after)}"]
    middles = {
        method: [statistics.median(best[str(count)] for best in rows) for count in after]
        for method, rows in groups.items()
    }
    for method, values in sorted(middles.items(), key=lambda item: -item[1][-1]):
        lines.append(f"| `{method}` | {' | '.join(f'{value:.3f}' for value in values)} |")
    told = [f"The optimum of the histograms alone, one evaluation: {found['start_reward']:.3f}."]
    for row in found.get("documented", []):
        best = row["best"][str(row["budget"])]
        told.append(f"`{row['method']}` after its documented {row['budget']:,} evaluations, one seed: {best:.3f}.")
    return "\n".join([*lines, "", " ".join(told)])


def networks(body: Mapping[str, Any]) -> str:
    """Return what each network of a run of `triseg zoo` came to, as a Markdown table.

    Args:
        body: with "rows".
    """
    lines = [
        "| network | layers | residual, depthwise | INT8 | points lost | bits | multiplies saved |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for row in body["rows"]:
        if "error" in row:
            lines.append(f"| {row['name']} | {row['error']} | | | | | |")
            continue
        kind = ", ".join(kind for kind in ("residual", "depthwise") if row[kind])
        lines.append(
            f"| {row['name']} | {len(row['sites'])} | {kind} | {row['acc_teacher']:.2f} % | {row['drop']:.2f} | "
            f"{row['bits']:.2f} | {100 * row['avoided']:.1f} % |"
        )
    return "\n".join(lines)


TRISEG = {"networks": networks, "searchers": searchers}
"""The tables by the name of their part."""
