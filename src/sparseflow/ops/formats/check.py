"""Whether the levels of a format fit together, and the reason where they do not."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sparseflow.ops.formats.format import Format, Level

__all__ = ["Refusal", "known", "refusal"]

_PARENTS = {"i0": "i", "i1": "i", "k0": "k", "k1": "k"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something cannot be.

    Args:
        rule: name of the rule that is broken.
        reason: what is wrong, in words.
    """

    rule: str
    reason: str


def known(axes: Collection[str]) -> set[str]:
    """Return these axes and those that follow from them by arithmetic.

    i = i0·r + i1, k = k0·c + k1, d = k − i.

    >>> sorted(known(["d", "i0", "i1"]))
    ['d', 'i', 'i0', 'i1', 'k', 'k0', 'k1']
    """
    found = set(axes)
    while True:
        more = {whole for whole in ("i", "k") if {whole + "0", whole + "1"} <= found}
        more |= {part for part, whole in _PARENTS.items() if whole in found}
        more |= {"k"} if {"i", "d"} <= found else set()
        more |= {"i"} if {"k", "d"} <= found else set()
        more |= {"d"} if {"i", "k"} <= found else set()
        if more <= found:
            return found
        found |= more


def _one_only(fmt: Format, level: Level, above: tuple[Level, ...]) -> bool:
    # A node has at most one child here: one place on the axis, one non-zero a node, or the n-th non-zero of a row.
    single = level.axis in ("i1", "k1") and fmt.inner(level.axis) == 1
    apart = any(a.kind == "nonunique" for a in above)
    seen = known([a.axis for a in above])
    return single or apart or ("p" in seen and "i" in seen and level.axis in ("k", "k0", "k1", "d"))


def _axes_refused(fmt: Format) -> Iterator[Refusal]:
    axes = fmt.axes
    if len(set(axes)) < len(axes):
        yield Refusal(rule="repeat", reason=f"levels are {' '.join(axes)}; each axis may occur once")
    for part, whole in _PARENTS.items():
        if part in axes and whole in axes:
            yield Refusal(rule="split", reason=f"holds both {whole} and its part {part}")
    for whole in ("i", "k"):
        outer, inner = whole + "0", whole + "1"
        if (outer in axes) != (inner in axes):
            yield Refusal(rule="split", reason=f"holds only one of {outer} and {inner}")
        elif outer in axes and axes.index(outer) > axes.index(inner):
            yield Refusal(rule="split", reason=f"{inner} comes before {outer}")
        if outer not in axes and (fmt.rows_inner if whole == "i" else fmt.columns_inner) > 1:
            yield Refusal(rule="split", reason=f"gives {inner} a size, but has no level {inner}")
    if not {"i", "k"} <= known(axes):
        yield Refusal(rule="unresolved", reason=f"levels {' '.join(axes)} do not tell row and column of a non-zero")


def _level_refused(fmt: Format, n: int) -> Iterator[Refusal]:
    level, above = fmt.levels[n], fmt.levels[:n]
    last = n == len(fmt.levels) - 1
    name = f"level {n} ({level.axis}, {level.kind})"
    seen = known([a.axis for a in above])
    if level.axis in seen or (level.axis == "p" and {"i", "k"} <= seen):
        yield Refusal(rule="redundant", reason=f"{name} follows from the levels above it")
    if level.axis == "d" and not level.stored:
        yield Refusal(rule="diagonal", reason=f"{name}: diagonals are stored by their coordinates")
    if level.axis == "p" and level.kind not in ("dense", "sliced"):
        yield Refusal(rule="rank", reason=f"{name}: ranks begin at 0 without gaps, so that they are dense or sliced")
    apart = any(a.kind == "nonunique" for a in above)
    if apart and not level.stored and not (level.axis in ("i1", "k1") and fmt.inner(level.axis) == 1):
        yield Refusal(rule="after nonunique", reason=f"{name}: a node above stands for one non-zero alone")
    if level.kind.startswith("singleton") and not _one_only(fmt, level, above):
        yield Refusal(rule="singleton", reason=f"{name}: a node above may have several coordinates here")
    if level.kind == "singleton_nonunique" and last:
        yield Refusal(rule="unique", reason=f"{name}: no later level tells equal coordinates apart")
    if level.kind == "singleton" and not last and apart:
        yield Refusal(rule="unique", reason=f"{name}: coordinates may repeat here; the kind is singleton_nonunique")
    if level.delta and level.kind not in ("compressed", "nonunique"):
        yield Refusal(rule="delta", reason=f"{name} has no neighbours to take a distance from")
    if level.bits != 32 and not level.stored:
        yield Refusal(rule="bits", reason=f"{name} stores no coordinates")


def refusal(fmt: Format) -> Refusal | None:
    """Return why no matrix can be stored so, or None.

    Rules, by name: "repeat", "split" (both halves, the outer one first), "unresolved" (row and column of a leaf
    follow), "redundant", "diagonal", "rank", "after nonunique", "singleton" (a parent has one child at most), "unique",
    "delta", "bits". A format that passes stores every matrix whose coordinates fit its widths, see `pack`.

    >>> refusal(Format(levels=(Level(axis="i"), Level(axis="k", kind="singleton")))).rule
    'singleton'
    """
    first = next(_axes_refused(fmt), None)
    for n in range(len(fmt.levels)):
        first = first or next(_level_refused(fmt, n), None)
    return first
