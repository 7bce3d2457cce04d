"""The C++ engine of a whole forecaster in integers, bit for bit `IntRef`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.ops import _library
from sparseflow.ops._library import native
from sparseflow.ops.fixed_point import Ints, clamp, integers

__all__ = ["ABSENT", "IntEngine", "isas"]

ABSENT: str | None = _library.ABSENT
if native is not None and not hasattr(native, "IntegerScan"):
    ABSENT = "the compiled kernels are older than this engine; reinstall sparseflow with a C++17 compiler"

_FRACTION = 16
_MOST = 2**24 - 1


def isas() -> list[str]:
    """Return the instruction sets that the engine has kernels for on this machine, slowest first."""
    return [] if ABSENT is not None else list(native.engine_isas())


class IntEngine:
    """Forecast in 8-bit codes by the arithmetic of `ops/fixed_point`, in C++ on the threads that torch uses.

    Its results do not depend on threads, batch or instruction set, bit for bit. It keeps no Python state, and may be
    called from several threads.

    Args:
        args: sizes of an "official" network.
        arrays: its integers, from `lowering.lower` or out of a pack.
        isa: "auto", or one of `isas()`; "avx512" needs VNNI.

    Raises:
        UnsupportedError: there are no compiled kernels, or the variant has no integers.
        ConfigError: no such instruction set.
        DataError: an array is missing, of another type or size, or out of its range; names it.
    """

    def __init__(self, args: ModelArgs, arrays: Mapping[str, NDArray[np.integer]], *, isa: str = "auto") -> None:
        if ABSENT is not None:
            raise UnsupportedError(f"the engine cannot run: {ABSENT}")
        if args.variant != "official":
            raise UnsupportedError(f"the variant {args.variant!r} has no integer form; train the official one")
        if isa != "auto" and isa not in isas():
            raise ConfigError(f"isa is {isa!r}; this machine runs auto, {', '.join(isas())}")
        self.args, self.isa = args, isa
        sizes = native.CMambaSizes(
            True, args.num_channels, args.seq_len, args.padding, args.patch_len, args.stride, args.num_patches,
            args.d_model, args.n_layer, args.d_inner, args.d_state, args.rank, 0,
            args.num_channels // args.reduction_ratio, args.forecast_len,
        )  # fmt: skip
        stored = {name: (array.dtype.name, _little(array).tobytes()) for name, array in arrays.items()}
        try:
            self._network = native.IntegerCMamba(sizes, stored)
        except ValueError as e:
            raise DataError(f"{e}; lower the weights anew") from e

    def codes(self, x: Any) -> Ints:
        """Return the forecast `[B, V, F]` with 16 fraction bits.

        Args:
            x: readings `[B, V, L]`, floats (tensor or array) or integers with 16 fraction bits.

        Raises:
            DataError: readings of another shape, not finite, or beyond 24 bits.
        """
        return self._run(x).astype(np.int64)

    def __call__(self, x: Any) -> NDArray[np.float64]:
        """Return the forecast `[B, V, F]` in the units of the readings, as `codes` takes them."""
        return self._run(x) / 2.0**_FRACTION

    def _run(self, x: Any) -> NDArray[np.int32]:
        readings = _readings(x)
        args = self.args
        if readings.ndim != 3 or readings.shape[1:] != (args.num_channels, args.seq_len):
            raise DataError(
                f"the readings have shape {list(readings.shape)}; expected [B, {args.num_channels}, {args.seq_len}]"
            )
        out = np.empty((len(readings), args.num_channels, args.forecast_len), np.int32)
        self._network.run(readings.ctypes.data, out.ctypes.data, len(readings), torch.get_num_threads(), self.isa)
        return out


def _readings(x: Any) -> NDArray[np.int32]:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if array.dtype.kind == "f":
        array = clamp(integers(array.astype(np.float64) * 2.0**_FRACTION), _MOST)
    elif array.dtype.kind not in "iu" or (array.size and max(-int(array.min()), int(array.max())) > _MOST):
        raise DataError("readings are floats, or integers with 16 fraction bits below 2^24")
    return np.ascontiguousarray(array, np.int32)


def _little(array: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.ascontiguousarray(array, np.asarray(array).dtype.newbyteorder("<"))
