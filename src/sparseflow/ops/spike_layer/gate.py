"""Two kernels for one layer, of which the spikes of each call choose one on the device, without the host."""

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.lif.reference import WORD, LIFParams
from sparseflow.ops.spike_layer import _build, cuda, event
from sparseflow.ops.spike_layer.reference import Source

__all__ = ["FEW", "MANY", "Params", "answer", "decide", "pack", "set_bits", "spike_layer"]

NAME = "spike_gate"
THREADS = 512
BLOCKS = 264
FEW, MANY = 0, 1
ANSWER = 2  # place of the answer in what `decide` returns


class Params(ctypes.Structure):
    """`Params` of spike_gate.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("words", "share", "state")),
        ("count", ctypes.c_ulonglong),
        ("bits", ctypes.c_double),
    )


def set_bits(words: Tensor) -> int:
    """Return how many bits are set; the plain way, which waits for the device.

    >>> set_bits(torch.tensor([-1, 3, 0], dtype=torch.int32))
    34
    """
    return sum(int(((words >> place) & 1).sum()) for place in range(WORD))


def decide(words: Tensor, channels: int, crossover: Tensor) -> Tensor:
    """Count the spikes of one call, and say whether they are many.

    Args:
        words: int32 `[M, H, W, planes*ceil(C/32)]`, contiguous; bits past the last channel are 0.
        channels: C times the planes.
        crossover: `[1]` float64 on the same device: the share of ones above which spikes are many.

    Returns:
        int64 `[3]`: the spikes, a number of the kernel's own, and `MANY` or `FEW`. Equal words give equal
        answers. On CUDA devices nothing waits for it.

    Cost: reads the words once.
    Source: ours.
    """
    bits = words.numel() // max(words.shape[-1], 1) * channels
    state = words.new_zeros(3, dtype=torch.int64)
    if not words.is_cuda:
        state[0] = set_bits(words)
        state[ANSWER] = MANY if float(state[0]) > float(crossover) * bits else FEW
        return state
    count = words.numel()
    if count:
        call = Params(words.data_ptr(), crossover.data_ptr(), state.data_ptr(), count, bits)
        vec = words.data_ptr() % 16 == 0
        grid = min(BLOCKS, -(-count // (THREADS * (4 if vec else 1))))
        stream = ctypes.c_void_p(torch.cuda.current_stream(words.device).cuda_stream)
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(call))
        handle = _function(words.get_device(), vec)
        status = _build.driver().cuLaunchKernel(handle, grid, 1, 1, THREADS, 1, 1, 0, stream, arguments, None)
        _build.check(status, "the launch of the gate")
    return state


def answer(state: Tensor) -> Tensor:
    """Return the answer of `decide` as int32 `[1]`, a view: the low half of the last number."""
    return state.view(torch.int32)[2 * ANSWER : 2 * ANSWER + 1]


@lru_cache(maxsize=64)
def _function(device: int, vec: bool) -> ctypes.c_void_p:
    return _build.function(device, (("VEC", int(vec)),), 0, NAME)


def pack(
    weights: list[Tensor],
    bias: Tensor | None,
    params: LIFParams | None,
    identity: bool,
    planes: tuple[int, ...],
    precision: str,
    crossover: float | None,
) -> dict[str, Tensor]:
    """Return the tensors of kernel "event" as `few.*` and of kernel "cuda" as `many.*`, and the crossover.

    Raises:
        ConfigError: no crossover, or one that is no share.
        UnsupportedError: one of the two kernels rejects the weights.
    """
    from sparseflow.ops.spike_layer import pack_layer

    if crossover is None or not 0.0 <= crossover <= 1.0:
        raise ConfigError(f"pack_layer: kernel 'gated' needs a crossover between 0 and 1, not {crossover}")
    given: dict[str, Any] = {"identity": identity, "planes": planes}
    few = pack_layer(weights, bias, params, precision=_few(precision), kernel="event", **given)
    many = pack_layer(weights, bias, params, precision=precision, kernel="cuda", **given)
    return {
        "crossover": torch.tensor([crossover], dtype=torch.float64, device=weights[0].device),
        **{f"few.{name}": x for name, x in few.tensors.items()},
        **{f"many.{name}": x for name, x in many.tensors.items()},
    }


def _few(precision: str) -> str:
    return "fp16" if precision == "int8" else precision


def spike_layer(
    sources: Sequence[Source],
    weights: Any,
    *,
    steps: int,
    identity: tuple[Tensor, int] | None = None,
    add: tuple[Tensor, int] | None = None,
    v0: Tensor | None = None,
    keep_v: bool = False,
    out: str = "words",
    out_planes: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """Run the layer; arguments as in `sparseflow.ops.spike_layer.spike_layer`, all checked there.

    Both kernels are launched, into the same output; the one that is not meant
    returns at once. The first source decides.

    Args:
        sources: convolution sources.
        weights: `LayerWeights` packed for this kernel.
        steps: T.
        identity: counts added to the currents.
        add: counts added to the spikes.
        v0: first potential.
        keep_v: return the last potential.
        out: "words".
        out_planes: planes of the output.

    Raises:
        UnsupportedError: it cannot run here; says why.
    """
    words = sources[0].words.contiguous()
    reason = _build.refusal(words.device)
    if reason is not None:
        raise UnsupportedError(f"spike_layer: kernel 'gated' cannot run: {reason}")
    sources = [sources[0]._replace(words=words), *sources[1:]]
    state = decide(words, sources[0].channels * sources[0].planes, weights.tensors["crossover"])
    given: dict[str, Any] = {
        "steps": steps, "identity": identity, "add": add, "v0": v0, "keep_v": keep_v, "out": out,
        "out_planes": out_planes,
    }  # fmt: skip
    few = replace(weights, kernel="event", precision=_few(weights.precision), tensors=_part(weights, "few."))
    many = replace(weights, kernel="cuda", tensors=_part(weights, "many."))
    gate = answer(state)
    y, v = event.spike_layer(sources, few, gate=(gate, FEW), **given)
    y, w = cuda.spike_layer(sources, many, gate=(gate, MANY), into=y, **given)
    return y, None if v is None or w is None else torch.where(gate == MANY, w, v)


def _part(weights: Any, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in weights.tensors.items() if name.startswith(prefix)}
