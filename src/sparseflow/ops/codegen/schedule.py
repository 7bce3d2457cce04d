"""Schedule: the order in which a product is computed, and who computes what."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir._json import canonical, digest
from sparseflow.ops.codegen.einsum import PRODUCTS
from sparseflow.ops.formats import Format, Refusal
from sparseflow.ops.formats.check import refusal as format_refusal

__all__ = ["PARTITIONS", "Schedule", "parallel_axes", "refusal", "streams", "vector_axis"]

PARTITIONS = ("static", "dynamic", "nnz")
_DENSE = ("j", "j0", "j1")
_SIZES = {"inner": 1, "chunk": 1, "threads": 1, "factor": 1, "tile": 1, "prefetch": 0, "panel": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a product is computed from a matrix in some format.

    Args:
        order: loops from the outermost: the axes of the levels in their order, and between them j, or j0 and j1.
        inner: size of "j1".
        parallel: axis whose iterations are dealt to threads.
        partition: "static" in chunks by turns, "dynamic" in chunks as threads come free, "nnz" in equal shares of
            entries.
        chunk: iterations of a chunk.
        threads: how many.
        vector: axis whose iterations are lanes.
        unroll: axis whose iterations are written out.
        factor: how many of them.
        tile: vectors of results that are kept in registers.
        prefetch: how many entries ahead operands are asked for; 0 for none.
        stream: whether results are stored past the caches.
        panel: columns j that are done for the whole matrix before the next ones; 0 for all at once.

    Raises:
        ConfigError: a number out of range, or another partition. Whether fields fit together is told by `refusal`.
    """

    order: tuple[str, ...]
    inner: int = 1
    parallel: str | None = None
    partition: str = "static"
    chunk: int = 32
    threads: int = 1
    vector: str | None = None
    unroll: str | None = None
    factor: int = 1
    tile: int = 1
    prefetch: int = 0
    stream: bool = False
    panel: int = 0

    def __post_init__(self) -> None:
        """Check the fields one by one."""
        for name, least in _SIZES.items():
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int) or size < least:
                raise ConfigError(f"Schedule.{name} is {size!r}; expected {least} or more")
        if self.partition not in PARTITIONS:
            raise ConfigError(f"Schedule.partition is {self.partition!r}; expected one of {', '.join(PARTITIONS)}")
        if not isinstance(self.stream, bool):
            raise ConfigError(f"Schedule.stream is {self.stream!r}; expected true or false")

    @property
    def key(self) -> str:
        """Hash of the schedule."""
        return digest(asdict(self))

    def to_json(self) -> str:
        """Return the schedule as canonical JSON."""
        return canonical(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Schedule":
        """Read what `to_json` wrote.

        Raises:
            DataError: not JSON, or not the fields of a schedule.
            ConfigError: a field out of range.
        """
        try:
            body = json.loads(text)
            return cls(**{**body, "order": tuple(body["order"])})
        except (KeyError, TypeError, json.JSONDecodeError) as e:
            raise DataError(f"not a schedule: {e}; write it with Schedule.to_json") from e


def parallel_axes(op: str, fmt: Format) -> set[str]:
    """Return the axes on which two iterations never write the same result.

    Those of rows that occur once under their parent, and j; for "sddmm" every level, as each entry is a result.
    """
    if PRODUCTS[op].sampled:
        return set(fmt.axes)
    rows = {n.axis for n in fmt.levels if n.axis in ("i", "i0", "i1") and n.kind in ("dense", "compressed", "sliced")}
    apart = next((n for n, level in enumerate(fmt.levels) if level.kind == "nonunique"), len(fmt.levels))
    return (rows & set(fmt.axes[:apart])) | (set(_DENSE) if PRODUCTS[op].dense else set())


def vector_axis(fmt: Format, order: tuple[str, ...]) -> str | None:
    """Return the innermost loop that has iterations: the one that can be lanes; None where there is none."""
    kinds = {level.axis: level.kind for level in fmt.levels}
    loops = [axis for axis in order if not kinds.get(axis, "dense").startswith("singleton")]
    return loops[-1] if loops and kinds.get(loops[-1]) != "nonunique" else None


def streams(op: str, fmt: Format) -> bool:
    """Tell whether results are complete once an iteration of the outermost level ends, so that none is met again."""
    outermost = fmt.levels[0]
    return PRODUCTS[op].sampled or (outermost.axis in ("i", "i0") and outermost.kind != "nonunique")


def _order_refused(op: str, fmt: Format, s: Schedule) -> Iterator[Refusal]:
    dense = [axis for axis in s.order if axis in _DENSE]
    if len(set(s.order)) < len(s.order):
        yield Refusal(rule="repeat", reason=f"order is {' '.join(s.order)}; each loop may occur once")
    if tuple(axis for axis in s.order if axis not in _DENSE) != fmt.axes:
        yield Refusal(rule="concordant", reason=f"loops {' '.join(s.order)} do not follow levels {' '.join(fmt.axes)}")
    if dense not in ([["j"], ["j0", "j1"]] if PRODUCTS[op].dense else [[]]):
        wanted = "j, or j0 and then j1" if PRODUCTS[op].dense else "none"
        yield Refusal(rule="dense", reason=f"{op} has loops {dense} beside those of the levels; expected {wanted}")
    if s.inner > 1 and "j1" not in s.order:
        yield Refusal(rule="dense", reason="inner gives j1 a size, but there is no loop j1")


def _hints_refused(op: str, fmt: Format, s: Schedule) -> Iterator[Refusal]:
    kinds = {level.axis: level.kind for level in fmt.levels}
    chosen = [axis for axis in (s.parallel, s.vector, s.unroll) if axis is not None]
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(s.order):
        yield Refusal(
            rule="loops", reason=f"parallel, vector and unroll are {chosen}; expected different loops of the order"
        )
    if s.parallel is not None and s.parallel not in parallel_axes(op, fmt):
        yield Refusal(rule="race", reason=f"iterations of {s.parallel} may write the same result")
    if s.partition == "nnz" and (s.parallel is None or s.parallel != fmt.axes[0] or s.parallel != s.order[0]):
        yield Refusal(rule="nnz", reason="shares of entries are cut at the outermost level, which must be parallel")
    if s.vector is not None and s.vector != vector_axis(fmt, s.order):
        yield Refusal(rule="vector", reason=f"{s.vector} is not the innermost loop with iterations")
    if s.unroll is not None and kinds.get(s.unroll, "dense") != "dense":
        yield Refusal(rule="unroll", reason=f"{s.unroll} has no fixed number of iterations")
    if s.factor > 1 and s.unroll is None:
        yield Refusal(rule="unroll", reason="factor needs a loop to unroll")
    if s.tile > 1 and (op != "spmm" or s.vector not in _DENSE):
        yield Refusal(rule="tile", reason="results stay in registers where lanes are columns of the result")
    if s.prefetch and not any(level.stored for level in fmt.levels):
        yield Refusal(rule="prefetch", reason="no coordinate is stored that would tell what comes next")
    if s.panel and (not PRODUCTS[op].dense or s.panel % s.inner):
        yield Refusal(
            rule="panel", reason=f"a panel of {s.panel} columns does not hold whole parts of {s.inner} columns of j"
        )
    if s.stream and not streams(op, fmt):
        yield Refusal(rule="stream", reason="a result is met again after others, and would be read back")


def refusal(op: str, fmt: Format, schedule: Schedule) -> Refusal | None:
    """Return why a product cannot be computed so, or None.

    Rules, by name: those of the format; "repeat", "concordant" (loops follow levels), "dense", "loops", "race", "nnz",
    "vector", "unroll", "tile", "prefetch", "panel", "stream".

    Raises:
        ConfigError: no such product.
    """
    if op not in PRODUCTS:
        raise ConfigError(f"no product {op!r}; there are {', '.join(PRODUCTS)}")
    found = format_refusal(fmt) or next(_order_refused(op, fmt, schedule), None)
    return found or next(_hints_refused(op, fmt, schedule), None)
