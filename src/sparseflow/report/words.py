"""Figures in words: times, shares and the headline of a run."""

from sparseflow.report.run import Run

__all__ = ["count", "figure", "headline", "joules", "percent", "ratio", "seconds"]

_NARROW = "\u202f"
_PARITY = {
    "rel_err": "largest difference of the outputs, over the largest output",
    "layer_rel_err": "the same for a layer fed the same input",
    "top1": "same decision on the sample",
    "spikes": "spikes compared",
    "mismatches": "spikes that differ",
    "mismatch": "share of spikes that differ",
    "near": "spikes on the threshold, either way right",
}


def seconds(value: float | None) -> str:
    """Return a time with three digits and a fitting unit.

    >>> seconds(0.0123), seconds(4.56e-5), seconds(None)
    ('12.3\u202fms', '45.6\u202fµs', '–')
    """
    return "–" if value is None else _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")))


def joules(value: float | None) -> str:
    """Return an energy with three digits and a fitting unit.

    >>> joules(1.52e-7), joules(3.0e-5)
    ('152\u202fnJ', '30.0\u202fµJ')
    """
    units = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ"))
    return "–" if value is None else _scaled(value, units)


def ratio(value: float | None) -> str:
    """Return a speed-up such as "3.4×".

    >>> ratio(3.42), ratio(12.4), ratio(1.004)
    ('3.42×', '12.4×', '1.00×')
    """
    return "–" if value is None else f"{_digits(value)}×"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage.

    >>> percent(0.918), percent(0.00042)
    ('91.8\u202f%', '0.0\u202f%')
    """
    return "–" if value is None else f"{100 * value:.{digits}f}{_NARROW}%"


def count(value: float) -> str:
    """Return a whole number with thin spaces between thousands.

    >>> count(12000)
    '12\u202f000'
    """
    return f"{round(value):,}".replace(",", _NARROW)


def figure(name: str, value: float) -> tuple[str, str]:
    """Return a figure of a comparison as label and text.

    >>> figure("mismatches", 0.0), figure("some_error", 1.25e-6)
    (('spikes that differ', '0'), ('some error', '1.25e-06'))
    """
    label = _PARITY.get(name, name.replace("_", " "))
    if name == "top1":
        return label, percent(value)
    return label, count(value) if value == round(value) and abs(value) < 1e15 else f"{value:.3g}"


def headline(run: Run) -> str:
    """Return the run in one honest sentence."""
    parts = [_speed(run.speedup)]
    if run.accuracy is not None:
        a = run.accuracy
        if a.dense_correct == a.optimized_correct:
            parts.append(f"same {percent(a.dense)} accuracy")
        else:
            digits = 1 if percent(a.dense) != percent(a.optimized) else 2
            parts.append(f"accuracy {percent(a.dense, digits)} → {percent(a.optimized, digits)}")
        parts.append(f"{count(a.changed)} of {count(a.images)} answers changed")
    return ", ".join(parts)


def _speed(value: float | None) -> str:
    if value is None:
        return "Not timed"
    if value >= 1.02:
        return f"{ratio(value)} faster"
    return "As fast as dense" if value >= 0.98 else f"{ratio(value)} the speed of dense"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    scale, unit = next((u for u in units if value >= u[0]), units[-1])
    return f"{_digits(value / scale)}{_NARROW}{unit}"


def _digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 or value == 0 else f"{value:.2g}"
