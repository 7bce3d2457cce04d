"""How matrices and their factors lie in the memories of the Verilog: tiles of 64 weights, and words of factors."""

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError
from sparseflow.ops.fixed_point import Factor, Ints

__all__ = ["factor_words", "pad", "tile", "untile"]

CHANNEL_BYTES = 9


def pad(values: Ints, *multiples: int) -> Ints:
    """Return an array with zeros behind, so that each axis is a multiple of a number.

    >>> pad(np.ones((1, 3), np.int64), 2, 2)
    array([[1, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    return np.pad(values, [(0, -n % m) for n, m in zip(values.shape, multiples, strict=True)])


def tile(weight: Ints, rows: int = 8, columns: int = 8) -> NDArray[np.int8]:
    """Cut a matrix into tiles, one word of the weight memory each.

    Args:
        weight: int8 values `[M, N]`.
        rows: outputs of a tile.
        columns: inputs of a tile.

    Returns:
        `[ceil(M / rows) · ceil(N / columns), rows · columns]`, all tiles of the first rows first; in a tile
        weight r, c lies at r · columns + c. What is missing at the edges is 0.

    Raises:
        ConfigError: a weight is no int8 code.

    >>> tile(np.arange(8).reshape(2, 4), 2, 2).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    if weight.ndim != 2 or (weight.size and int(np.abs(weight).max()) > 127):
        raise ConfigError(f"weights of shape {list(weight.shape)}; expected a matrix of codes from -127 to 127")
    whole = pad(weight, rows, columns)
    cut = whole.reshape(whole.shape[0] // rows, rows, whole.shape[1] // columns, columns).swapaxes(1, 2)
    return np.ascontiguousarray(cut.reshape(-1, rows * columns).astype(np.int8))


def untile(tiles: NDArray[np.int8], shape: tuple[int, int], rows: int = 8, columns: int = 8) -> Ints:
    """Undo `tile` for a matrix of this shape."""
    down, across = -(-shape[0] // rows), -(-shape[1] // columns)
    whole = tiles.reshape(down, across, rows, columns).swapaxes(1, 2).reshape(down * rows, across * columns)
    return whole[: shape[0], : shape[1]].astype(np.int64)


def factor_words(bias: Ints, factor: Factor, rows: int = 8, lanes: int = 4) -> NDArray[np.uint8]:
    """Lay out bias and factor of each output, `lanes` of them a word of the parameter memory.

    Args:
        bias: int32 `[M]`.
        factor: of the requantisation, `[M]`.
        rows: outputs of a tile; channels up to a multiple of it are 0.
        lanes: channels a word.

    Returns:
        `[words, 9 · lanes]` bytes: of each channel bias and multiplier in 4 bytes each, then the shift.

    Raises:
        ConfigError: a value does not fit.
    """
    if not (bias.shape == factor.multiplier.shape == factor.shift.shape and bias.ndim == 1):
        raise ConfigError("bias, multiplier and shift are not of one length; give one of each an output")
    for name, values in (("bias", bias), ("multiplier", factor.multiplier)):
        if bias.size and int(np.abs(values).max()) >= 2**31:
            raise ConfigError(f"a {name} has more than 32 bits; mend the scales")
    if bias.size and not 1 <= int(factor.shift.min()) <= int(factor.shift.max()) <= 62:
        raise ConfigError("a shift is not from 1 to 62; mend the scales")
    m = pad(bias, rows).size
    bytes_ = np.zeros((m, CHANNEL_BYTES), np.uint8)
    for at, values in ((0, bias), (4, factor.multiplier)):
        bytes_[: bias.size, at : at + 4] = values.astype("<i4").view(np.uint8).reshape(-1, 4)
    bytes_[: bias.size, 8] = factor.shift
    return bytes_.reshape(m // lanes, lanes * CHANNEL_BYTES)
