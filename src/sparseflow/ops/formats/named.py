"""The formats that have names."""

from sparseflow.ops.formats.format import Format, Level, Reorder

__all__ = ["bcsr", "coo", "csc", "csr", "dcsr", "dia", "ell", "sell"]


def csr(*, bits: int = 32, delta: bool = False) -> Format:
    """Compressed rows: every row, and in it the columns that occur."""
    return Format(levels=(Level(axis="i"), Level(axis="k", kind="compressed", bits=bits, delta=delta)))


def csc() -> Format:
    """Compressed columns."""
    return Format(levels=(Level(axis="k"), Level(axis="i", kind="compressed")))


def dcsr() -> Format:
    """Compressed rows without the empty ones."""
    return Format(levels=(Level(axis="i", kind="compressed"), Level(axis="k", kind="compressed")))


def coo() -> Format:
    """A row and a column for each non-zero."""
    return Format(levels=(Level(axis="i", kind="nonunique"), Level(axis="k", kind="singleton")))


def bcsr(r: int, c: int) -> Format:
    """Compressed rows of dense blocks r × c: i0 dense, k0 compressed, i1 and k1 dense."""
    levels = (Level(axis="i0"), Level(axis="k0", kind="compressed"), Level(axis="i1"), Level(axis="k1"))
    return Format(levels=levels, rows_inner=r, columns_inner=c)


def ell() -> Format:
    """As many places in every row as the longest has, and a column for each."""
    return Format(levels=(Level(axis="i"), Level(axis="p"), Level(axis="k", kind="singleton")))


def sell(c: int, sigma: int = 1, *, bits: int = 32) -> Format:
    """SELL-C-σ: slices of c rows, each as wide as its longest row, a place of all rows after the other.

    Args:
        c: rows of a slice.
        sigma: how many neighbouring rows are sorted by length before; 1 for none, 0 for all.
        bits: width of columns.

    Source: Kreutzer et al., SIAM J. Sci. Comput. 36(5), 2014.
    """
    rows = None if sigma == 1 else Reorder(rule="length", window=sigma)
    places = (Level(axis="i0"), Level(axis="p", kind="sliced"), Level(axis="i1"))
    return Format(levels=(*places, Level(axis="k", kind="singleton", bits=bits)), rows_inner=c, rows=rows)


def dia() -> Format:
    """The diagonals that hold something, each with a place for every row; columns follow from the two."""
    return Format(levels=(Level(axis="d", kind="compressed"), Level(axis="i")))
