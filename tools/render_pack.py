"""The tables of a forecaster's integers and of its pack, as Markdown."""

from collections.abc import Mapping
from typing import Any

__all__ = ["PACK"]

_KINDS = {"lut": "LUT", "ff": "flip-flops", "dsp": "DSP", "bram36": "BRAM36"}


def integers(body: Mapping[str, Any]) -> str:
    """Return MSE / MAE of each forecaster in float32 and in each integer form, a row a forecaster.

    Args:
        body: what `sparseflow forecast prove` writes.
    """
    names = list(body["tasks"][0]["forms"])
    lines = [f"| forecaster | windows | float32 | {' | '.join(names)} |", f"|---|{'--:|' * (len(names) + 2)}"]
    trained = []
    for task in body["tasks"]:
        base = task["fp32"]["mse"]
        cells = [f"{form['mse']:.4f} / {form['mae']:.4f} ({form['mse'] / base - 1:+.2%})" for form in
                 (task["forms"][name] for name in names)]  # fmt: skip
        whole = f"{base:.4f} / {task['fp32']['mae']:.4f}"
        lines.append(f"| {task['task'].replace('_', ', ')} ahead | {task['fp32']['windows']} | {whole} | "
                     f"{' | '.join(cells)} |")  # fmt: skip
        trained += [_training(task["task"], form) for form in task["forms"].values() if form["epochs"]]
    return "\n".join([*lines, "", f"<sub>MSE / MAE on the windows of the test. LSQ: {'; '.join(trained)}.</sub>"])


def _training(task: str, form: Mapping[str, Any]) -> str:
    kept = [line["epoch"] for line in form["epochs"] if line["kept"]][-1]
    what = "the start did best on val" if kept < 0 else f"epoch {kept + 1} of {len(form['epochs']) - 1} kept"
    return f"{task.replace('_', ', ')}: {form['trained_s']:.0f} s of training, {what}"


def rows(body: Mapping[str, Any]) -> str:
    """Return what was compared with the arithmetic, with mismatches and cycles."""
    lines = ["| compared with the arithmetic | numbers | mismatches | cycles |", "|---|--:|--:|--:|"]
    for row in body["pack"]["rows"]:
        cycles = f"{row['cycles']:,}" if row["cycles"] else ""
        wrong = row["note"] if row["mismatches"] is None else f"{row['mismatches']:,}"
        lines.append(f"| {row['name']} | {row['of']:,} | {wrong} | {cycles} |")
    return "\n".join(lines)


def cells(body: Mapping[str, Any]) -> str:
    """Return the cells of the modules beside what the target has, and the latency and energy of a window."""
    found, estimate = body["pack"]["cells"], body["pack"]["estimate"]
    if not found or "total" not in found:
        return "Not measured yet."
    kinds = list(found["has"])
    lines = [f"| module | {' | '.join(_KINDS[k] for k in kinds)} |", f"|---|{'--:|' * len(kinds)}"]
    names = [*(k for k in found if k.startswith("sf_")), "total"]
    lines += [f"| {name} | {' | '.join(f'{found[name][k]:,}' for k in kinds)} |" for name in names]
    has = " | ".join(f"{found['has'][k]:,.0f} ({found['total'][k] / found['has'][k]:.1%} taken)" for k in kinds)
    lines.append(f"| a {found['target'].upper()} has | {has} |")
    if estimate:
        energy = f", {1e3 * estimate['energy_j']:.2f} mJ" if estimate["energy_j"] is not None else ""
        lines += ["", f"{estimate['linear_cycles']:,.0f} cycles of linear layers and {estimate['scan_cycles']:,.0f} of "
                  f"scans a window, simulated: {1e3 * estimate['latency_s']:.2f} ms{energy} at "
                  f"{estimate['clock_hz'] / 1e6:.0f} MHz; {estimate['note']}."]  # fmt: skip
    return "\n".join([*lines, "", f"<sub>Cells by {found['tool']}.</sub>"])


def edges(body: Mapping[str, Any]) -> str:
    """Return how often the random and edge vectors meet what is special."""
    lines = ["| of | met | times |", "|---|---|--:|"]
    for kind, found in body["pack"]["edges"].items():
        lines += [f"| {kind} | {name} | {count:,} |" for name, count in found.items()]
    return "\n".join(lines)


PACK = {"integers": integers, "rows": rows, "cells": cells, "edges": edges}
"""Tables by the part of a name behind its point."""
