"""Weights in the order in which the CUDA kernel's lanes hold bits and channels.

A chunk is 64 input channels (two words) of one tap, for 64 output channels. It
holds four steps of 16 inputs; step `2i + h` covers word i. In it, lane c of
four expands bits `4c + j` and `4c + j + 16` of the word, `j = 2h + q`, q in
{0, 1}, each into half a register by a mask alone: the bit stays at place j and
reads as the subnormal float16 `2^(j - 24)`. Row `8q + 2c + e` of the step thus
is channel `32i + 4c + j + 16e`, and its weights are stored times `2^(S - j)`.
All sums come out times `2^(S - 24)`, and so do bias, threshold and reset.

In int8 a chunk holds two steps of 32 inputs, one a word. Lane c expands bits
`2c + j` of the word's four bytes, j in {0, 1}, each into a whole register, by a
shift and a mask: plane p comes to lie at place `8 - planes + p` of a byte. Row
`16j + 4c + e` of the step is channel `32i + 8e + 2c + j`. All sums come out
times `2^(8 - planes)`, which the scale of the column takes back; the neuron is
not scaled. An identity has no weights there: it is added after the product.

Column `8j + 2c + e` is output channel `16c + 2j + e`: a lane ends up with 16
neighbouring channels of a pixel, half an output word.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif.reference import LIFParams
from sparseflow.ops.spike_layer._grid import WHOLE, Grid

__all__ = ["COLUMNS", "HEADER", "INPUTS", "chunks", "pack", "pack_int8"]

# Output and input channels of one chunk, and numbers in front of the biases.
COLUMNS = 64
INPUTS = 64
HEADER = 8


def chunks(shape: tuple[int, ...]) -> int:
    """Return how many chunks a `[Cout, C, kh, kw]` weight takes for each 64 output channels.

    >>> chunks((64, 65, 3, 3))
    18
    """
    return -(-shape[1] // INPUTS) * math.prod(shape[2:])


def pack(
    weights: list[Tensor], bias: Tensor | None, params: LIFParams | None, identity: bool, precision: str
) -> dict[str, Tensor]:
    """Return `weights`, float16 `[tiles, chunks, halves, 4, 8, 2, 8, 8]`, and `constants`, float32.

    `constants` is the leak, threshold, reset, scale, 1/scale and three zeros,
    then a bias for each of `64 * tiles` columns, in the scaled domain; columns
    past the last channel have minus infinity, so that they never fire.
    """
    device, cout = weights[0].device, weights[0].shape[0]
    gain = 1 / params.tau if params is not None and params.kind == "lif" and params.decay_input else 1.0
    scaled = [w.double() * gain for w in weights]
    largest = max([gain if identity else 0.0, *(float(w.abs().max()) if w.numel() else 0.0 for w in scaled)])
    exponent = 15 - math.frexp(largest)[1] if largest else 0
    tiles = -(-cout // COLUMNS)
    parts = [_chunked(w * 2.0**exponent, tiles) for w in scaled]
    if identity:
        eye = torch.eye(COLUMNS, dtype=torch.float64, device=device)[:, :, None, None] * (gain * 2.0**exponent)
        parts.append(_chunked(eye, 1).expand(tiles, -1, -1, -1, -1, -1, -1))
    exact = torch.cat(parts, dim=1)
    halves = [exact.half()]
    if precision == "exact":
        halves.append((exact - halves[0].double()).half())
    scale = 2.0 ** (exponent - 24)
    return {
        "weights": torch.stack(halves, dim=2).contiguous(),
        "constants": _constants(cout, tiles, bias, params, gain, scale, device),
    }


def pack_int8(grid: Grid, bias: Tensor | None, params: LIFParams | None, planes: tuple[int, ...]) -> dict[str, Tensor]:
    """Return `weights`, int8 `[tiles, chunks, 1, 2, 8, 2, 8, 16]`, and `constants`, float32.

    `constants` is as of `pack`, with a scale of 1, the current of one spike of an
    identity in the first of the three zeros, and after the biases the scale of
    every column; 0 in columns past the last channel.

    Args:
        grid: the weights.
        bias: `[Cout]` or None.
        params: constants of the neurons, or None.
        planes: bits of a count of each source.

    Raises:
        UnsupportedError: counts that do not fit a byte, or sums that do not fit float32.
    """
    if max(planes) > 8:
        raise UnsupportedError(f"pack_layer: int8 takes counts of up to 8 planes, not {max(planes)}")
    if grid.largest >= WHOLE:
        raise UnsupportedError(f"pack_layer: int8 sums may reach {grid.largest}; they are exact below 2^24")
    device, cout = grid.scale.device, grid.scale.shape[0]
    gain = 1 / params.tau if params is not None and params.kind == "lif" and params.decay_input else 1.0
    tiles = -(-cout // COLUMNS)
    parts = []
    for whole in grid.whole:
        _, c, kh, kw = whole.shape
        w = F.pad(whole, (0, 0, 0, 0, 0, -c % INPUTS, 0, tiles * COLUMNS - cout))
        # Output channel as in float16; input channel = 64*chunk + 32*word + 8*e + 2*lane + j.
        w = w.reshape(tiles, 4, 8, 2, -1, 2, 4, 4, 2, kh, kw).permute(0, 9, 10, 4, 5, 2, 8, 1, 3, 7, 6)
        parts.append(w.reshape(tiles, -1, 2, 8, 2, 8, 16))
    constants = _constants(cout, tiles, bias, params, gain, 1.0, device)
    constants[5] = gain
    scale = F.pad(grid.scale * (gain * 2.0 ** (max(planes) - 8)), (0, tiles * COLUMNS - cout)).float()
    return {
        "weights": torch.cat(parts, dim=1)[:, :, None].contiguous(),
        "constants": torch.cat([constants, scale]),
    }


def _chunked(w: Tensor, tiles: int) -> Tensor:
    """Return `[tiles, chunks, 4, 8, 2, 8, 8]`: tile, chunk, step, n/8, k/8, n%8, k%8."""
    cout, c, kh, kw = w.shape
    w = F.pad(w, (0, 0, 0, 0, 0, -c % INPUTS, 0, tiles * COLUMNS - cout))
    # Output channel = 16*lane + 2*j + e; input channel = 64*chunk + 32*word + 16*e + 4*lane + 2*h + q.
    w = w.reshape(tiles, 4, 8, 2, -1, 2, 2, 4, 2, 2, kh, kw)
    place = torch.arange(4, device=w.device).reshape(2, 2, 1, 1)
    w = w * 2.0 ** -place.double()
    w = w.permute(0, 10, 11, 4, 5, 8, 2, 9, 1, 3, 7, 6)
    return w.reshape(tiles, -1, 4, 8, 2, 8, 8)


def _constants(
    cout: int,
    tiles: int,
    bias: Tensor | None,
    params: LIFParams | None,
    gain: float,
    scale: float,
    device: torch.device,
) -> Tensor:
    leaky = params is not None and params.kind == "lif"
    drift = params.v_rest / params.tau if params is not None and leaky else 0.0
    header = [1 - 1 / params.tau if params is not None and leaky else 1.0, 0.0, 0.0, scale, 1 / scale, 0.0, 0.0, 0.0]
    if params is not None:
        header[1:3] = [params.v_threshold * scale, params.v_rest * scale]
    out = torch.full((HEADER + tiles * COLUMNS,), -math.inf, dtype=torch.float64, device=device)
    out[:HEADER] = torch.tensor(header, dtype=torch.float64)
    out[HEADER : HEADER + cout] = drift * scale
    if bias is not None:
        out[HEADER : HEADER + cout] += bias.detach().double() * (gain * scale)
    return out.float()
