"""The compiled forecaster in integers: what `IntRef` computes, bit for bit, by AVX-512 VNNI, AVX2 or plain C++."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparseflow.errors import DataError, UnsupportedError
from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.ops._library import ABSENT, native
from sparseflow.ops.fixed_point import Ints, clamp, integers

__all__ = ["Engine", "isas"]

_LEAST, _FRACTION = 2**24 - 1, 16


def isas() -> tuple[str, ...]:
    """Return the instruction sets that run here, slowest first; none where the compiled kernels are missing."""
    return tuple(native.engine_isas()) if native is not None and hasattr(native, "IntegerCMamba") else ()


class Engine:
    """Forecast in integers by compiled kernels; nothing in it is floating point, and torch takes no part.

    Args:
        args: sizes of an "official" network.
        arrays: its integers, from `lowering.lower` or out of a pack; copied and packed for the machine.

    Raises:
        UnsupportedError: the compiled kernels are missing.
        DataError: an array is missing, or of another size or range than the arithmetic asks for; names it.
    """

    def __init__(self, args: ModelArgs, arrays: Mapping[str, NDArray[np.integer]]) -> None:
        if not isas():
            raise UnsupportedError(ABSENT or "the compiled kernels are older than this engine; reinstall sparseflow")
        self.args = args
        sizes = native.CMambaSizes(
            True, args.num_channels, args.seq_len, args.padding, args.patch_len, args.stride, args.num_patches,
            args.d_model, args.n_layer, args.d_inner, args.d_state, args.rank, 0,
            args.num_channels // args.reduction_ratio, args.forecast_len,
        )  # fmt: skip
        try:
            self._net = native.IntegerCMamba(sizes, {name: np.asarray(a).tobytes() for name, a in arrays.items()})
        except ValueError as e:
            raise DataError(f"{e}; lower the network anew") from e

    def codes(self, x: Any, *, threads: int | None = None, isa: str = "auto") -> Ints:
        """Return the forecast `[B, V, F]` with 16 fraction bits.

        Args:
            x: readings `[B, V, L]`, floats (tensor or array) or integers with 16 fraction bits; beyond ±2^24 they
                saturate.
            threads: of OpenMP; torch's number if None. Results do not depend on it, bit for bit.
            isa: "auto", or one of `isas()`.

        Raises:
            DataError: readings of another shape, or not finite.
            UnsupportedError: no such instruction set here.
        """
        if isa != "auto" and isa not in isas():
            raise UnsupportedError(f"no instruction set {isa!r} here; there are {', '.join(isas())}")
        given = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
        v, length = self.args.num_channels, self.args.seq_len
        if given.ndim != 3 or given.shape[1:] != (v, length):
            raise DataError(f"readings of shape {list(given.shape)}; expected [B, {v}, {length}]")
        scaled = integers(given.astype(np.float64) * 2.0**_FRACTION) if given.dtype.kind == "f" else given
        readings = np.ascontiguousarray(clamp(scaled.astype(np.int64), _LEAST).astype(np.int32))
        out = np.empty((len(readings), v, self.args.forecast_len), np.int32)
        count = torch.get_num_threads() if threads is None else max(1, threads)
        self._net.run(readings.ctypes.data, out.ctypes.data, len(readings), count, isa)
        return out.astype(np.int64)

    def __call__(self, x: Any, *, threads: int | None = None, isa: str = "auto") -> NDArray[np.float64]:
        """Return the forecast in the units of the readings, as `codes` takes them."""
        return self.codes(x, threads=threads, isa=isa) / 2.0**_FRACTION
