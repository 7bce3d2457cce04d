"""A part of kernel "cuda": windows of 3x3 with two thirds of the products, two neighbouring pixels at a time."""

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sparseflow.ops.lif.reference import WORD, LIFParams
from sparseflow.ops.spike_layer import _build
from sparseflow.ops.spike_layer._pack import COLUMNS, INPUTS, _chunked, _constants
from sparseflow.ops.spike_layer.reference import Source

__all__ = [
    "Call", "Params", "configure", "fits", "keeps", "launch", "pack", "packed", "shared_bytes", "suits", "transform",
]  # fmt: skip

NAME = "spike_pairs"
TAPS = (3, 3)
COUNTS = (2, 4)  # words of an input pixel whose weights stay in shared memory
PAIRS = 64
GROUPS = 2
CHUNK = 2 * INPUTS * COLUMNS  # bytes
TUNED = ("BUFFERS",)


class Params(ctypes.Structure):
    """`Params` of spike_pairs.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("words", "weights", "constants", "out", "add", "gate")),
        *((name, ctypes.c_int) for name in ("open", "height", "width", "across", "step", "pixels", "pairs", "steps")),
        *((name, ctypes.c_int) for name in ("words_out", "tiles", "columns")),
    )


def suits(shape: tuple[int, ...]) -> bool:
    """Tell whether weights of this shape are packed for the kernel.

    >>> suits((64, 64, 3, 3)), suits((64, 64, 1, 1)), suits((64, 256, 3, 3)), suits((64, 96, 3, 3))
    (True, False, False, False)
    """
    return tuple(shape[2:]) == TAPS and -(-shape[1] // WORD) in COUNTS


def fits(source: Source) -> bool:
    """Tell whether a source moves as the kernel expects.

    >>> words = torch.zeros(1, 4, 4, 2, dtype=torch.int32)
    >>> fits(Source(words, 64, 1, (3, 3), (1, 1), (1, 1))), fits(Source(words, 64, 1, (3, 3), (2, 2), (1, 1)))
    (True, False)
    """
    few = source.words.numel() < 2**31
    return source[2:] == (1, TAPS, (1, 1), (1, 1), (1, 1)) and source.words.data_ptr() % 8 == 0 and few


def transform(weight: Tensor) -> Tensor:
    """Return `[Cout, C, 3, 4]`, the weights of the four products of a pair of outputs, from `[Cout, C, 3, 3]`.

    With d the four pixels of a row that the pair sees, and g a row of the window,
    the outputs are `m0 + m1 + m2` and `m1 - m2 - m3` of

        m0 = (d0 - d2) g0              m1 = (d1 + d2) (g0 + g1 + g2) / 2
        m2 = (d2 - d1) (g0 - g1 + g2) / 2      m3 = (d1 - d3) g2

    Source: Winograd 1980; Lavin and Gray, CVPR 2016, F(2, 3).

    >>> transform(torch.tensor([1.0, 2.0, 3.0]).expand(1, 1, 3, 3))[0, 0, 0]
    tensor([1., 3., 1., 3.])
    """
    g0, g1, g2 = weight.unbind(3)
    return torch.stack([g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2], dim=3)


def keeps(weight: Tensor, params: LIFParams) -> bool:
    """Tell whether the weights of pairs round about as little in float16 as the weights themselves.

    Weights with random digits lose as much either way. Those that are whole in float16 lose nothing as they are;
    their sums of three need up to two digits more, which grids of 8 bits leave free and those of 11 do not.

    Args:
        weight: `[Cout, C, 3, 3]`.
        params: of the neurons; an input that decays is a factor of the weights.

    >>> keeps(torch.tensor([1.0, 1.0, 127.0]).expand(1, 1, 3, 3), LIFParams())
    True
    >>> keeps(torch.tensor([1.0, 1.0, 2047.0]).expand(1, 1, 3, 3), LIFParams())
    False
    """
    plain = weight.double() * _gain(params)
    return _lost(transform(plain)) <= 2 * _lost(plain)


def _gain(params: LIFParams) -> float:
    return 1 / params.tau if params.kind == "lif" and params.decay_input else 1.0


def _lost(values: Tensor) -> float:
    """Return the root of the mean square of what float16 loses of values scaled as `pack` does, over their size."""
    scaled = values * 2.0 ** _exponent(values)
    return float((scaled - scaled.half().double()).norm() / scaled.norm().clamp_min(1e-300))


def _exponent(values: Tensor) -> int:
    largest = float(values.abs().max()) if values.numel() else 0.0
    return 15 - math.frexp(largest)[1] if largest else 0


def pack(weight: Tensor, bias: Tensor | None, params: LIFParams) -> dict[str, Tensor]:
    """Return `pairs`, float16 `[tiles, 3 * 4 * ceil(C/64), 4, 8, 2, 8, 8]`, and `pairs_constants`, as of `_pack.pack`.

    Chunk `(4 * ky + way) * ceil(C/64) + part` holds product `way` of row `ky` of the window, for 64 channels.
    """
    cout = weight.shape[0]
    gain = _gain(params)
    ways = transform(weight.double() * gain)
    exponent = _exponent(ways)
    tiles = -(-cout // COLUMNS)
    return {
        "pairs": _chunked(ways * 2.0**exponent, tiles).half().contiguous(),
        "pairs_constants": _constants(cout, tiles, bias, params, gain, 2.0 ** (exponent - 24), weight.device),
    }


def packed(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the weights and the constants among the tensors of a layer."""
    return tensors["pairs"], tensors["pairs_constants"]


def configure(
    *, count: int, add: int, out_planes: int, reset: int, tune: tuple[tuple[str, int], ...] = ()
) -> tuple[tuple[str, int], ...]:
    """Return the kernel's defines.

    Args:
        count: words of an input pixel.
        add: planes added to the spikes.
        out_planes: planes of the output.
        reset: 0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential.
        tune: defines that are not to be chosen.
    """
    # Measured on an H200.
    chosen = {"BUFFERS": 3 if count == COUNTS[-1] else 2} | dict(tune)
    made = {name: chosen[name] for name in TUNED}
    return tuple((made | {"COUNT": count, "ADD": add, "OUTP": out_planes, "RESET": reset}).items())


@dataclass(frozen=True, slots=True)
class Call:
    """What a launch takes beside its defines.

    Args:
        addresses: of the input, the weights and the constants as of `pack`, the output, the counts added to the
            spikes, and the gate; 0 for none.
        open: what the gate must hold for the kernel to run.
        maps: N.
        height: H.
        width: W.
        steps: T.
        channels: Cout.
        cores: multiprocessors.
    """

    addresses: tuple[int, ...]
    open: int
    maps: int
    height: int
    width: int
    steps: int
    channels: int
    cores: int

    @property
    def pairs(self) -> int:
        """Pairs of neighbouring outputs of a row, those of one at the end of odd rows among them."""
        return self.maps * self.height * -(-self.width // 2)


def shared_bytes(count: int) -> int:
    """Return the bytes of shared memory of one block: all weights of 64 outputs, a bias each, and barriers.

    >>> shared_bytes(4)
    196912
    """
    units = 3 * count // 2
    return 4 * units * CHUNK + 4 * COLUMNS + 8 * units


@lru_cache(maxsize=4096)
def _handle(device: int, made: tuple[tuple[str, int], ...]) -> ctypes.c_void_p:
    return _build.function(device, made, shared_bytes(dict(made)["COUNT"]), NAME)


def launch(device: int, stream: int, made: tuple[tuple[str, int], ...], call: Call) -> None:
    """Launch the kernel on a stream of a device.

    Raises:
        UnsupportedError: it cannot be built or launched.
    """
    count = dict(made)["COUNT"]
    pixels = call.maps * call.height * call.width
    tiles, columns = -(-call.pairs // PAIRS), -(-call.channels // COLUMNS)
    params = Params(
        *call.addresses,
        call.open,
        call.height,
        call.width,
        -(-call.width // 2),
        pixels * count,
        pixels,
        call.pairs,
        call.steps,
        -(-call.channels // WORD),
        tiles,
        columns,
    )
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(params))
    grid = min(max(call.cores, columns), tiles * columns)
    status = _build.driver().cuLaunchKernel(
        _handle(device, made), grid, 1, 1, 128 * GROUPS, 1, 1, shared_bytes(count), ctypes.c_void_p(stream), arguments,
        None,
    )  # fmt: skip
    _build.check(status, "the launch of kernel 'cuda'")
