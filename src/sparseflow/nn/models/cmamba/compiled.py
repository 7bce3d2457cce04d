"""The compiled forward of CMamba in float32, and when it stands in for the modules.

It reads the weights anew at every call, from where torch keeps them: nothing of them is kept between calls, so they may
be changed in any way. It differs from the modules by roundings alone, and where anything but plain inference of a
network as it was built is wanted, it does not run.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from operator import is_
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from sparseflow.ops import _library
from sparseflow.ops._library import native, watched

if TYPE_CHECKING:
    from sparseflow.nn.models.cmamba.model import CMamba

__all__ = ["ABSENT", "forward", "refuses"]

ABSENT: str | None = _library.ABSENT
if native is not None and not hasattr(native, "CMambaSizes"):
    ABSENT = "the compiled kernels are older than this network; reinstall sparseflow with a C++17 compiler"

_ENDS = {
    "official": (
        ("patch_embedding.value_embedding.weight", "", "patch_embedding.position_embedding.pe"),
        ("", "head.linear.weight", "head.linear.bias"),
    ),
    "seed": (
        ("patch_embedding.weight", "patch_embedding.bias", "position_embedding.pe"),
        ("norm_f.weight", "output_layer.weight", "output_layer.bias"),
    ),
}
_MIXER = (
    "norm.weight", "mixer.in_proj.weight", "mixer.in_proj.bias", "mixer.conv1d.weight", "mixer.conv1d.bias", "mixer.D",
    "mixer.x_proj.weight", "mixer.dt_proj.weight", "mixer.dt_proj.bias", "mixer.A_log", "mixer.out_proj.weight",
    "mixer.out_proj.bias", "GDDMLP.fc_sc.0.weight", "GDDMLP.fc_sc.2.weight", "GDDMLP.fc_sf.0.weight",
    "GDDMLP.fc_sf.2.weight",
)  # fmt: skip
_BLOCKS = {"official": "encoder.layers", "seed": "blocks"}
_NORMS = {"official": "standardize", "seed": "norm_f"}
_MODULES = 3
"""What `native.changed` says of other children; less is said of hooks and forwards."""


def refuses(model: "CMamba", x: Tensor) -> str | None:
    """Return why the compiled forward does not stand in for this network and input, or None."""
    found = _find(model, x)
    return found if isinstance(found, str) else None


def forward(model: "CMamba", x: Tensor, isa: str = "auto") -> Tensor | None:
    """Return the forecast, or None where `refuses` says why not.

    Bit for bit the same for any number of threads, and for a sample alone or in a batch.

    Args:
        model: the network.
        x: `[B, V, L]`.
        isa: instruction set.
    """
    reader = _find(model, x)
    if isinstance(reader, str):
        return None
    args = model.args
    x = x.contiguous().resolve_neg()
    y = torch.empty(x.shape[0], args.num_channels, args.forecast_len)
    native.cmamba(
        reader.sizes, reader.addresses, reader.epsilons(), x.data_ptr(), y.data_ptr(), x.shape[0],
        torch.get_num_threads(), isa,
    )  # fmt: skip
    return y


def _find(model: "CMamba", x: Tensor) -> "_Reader | str":
    """Return what the compiled forward reads of the network, or why it does not run."""
    if ABSENT is not None:
        return ABSENT
    if model.training or watched(x) or torch.is_autocast_enabled("cpu"):
        return "it is for plain inference: eval, no gradients, no autocast, compilation, trace, mode or profiler"
    if not x.is_cpu or x.dtype is not torch.float32:
        return f"it takes float32 on the CPU; the input is {x.dtype} on {x.device}"
    reader = _readers.get(model)
    if reader is None or not reader.stands():
        _readers[model] = reader = _Reader(model)
        reader.stands()
    return reader.refuses() or reader


class _Reader:
    """Where the weights of one network are, and what tells that its modules are as they were built."""

    def __init__(self, model: "CMamba") -> None:
        from sparseflow.nn.models.cmamba.model import CMamba

        args = model.args
        with torch.device("meta"):
            fresh = CMamba(args)
        self.changed = type(model) is not CMamba or _plan(model) != _plan(fresh)
        modules = list(model.modules())
        self.attributes = [m.__dict__ for m in modules]
        self.children = [tuple(m._modules.values()) for m in modules]
        self.dropouts = [m for m in modules if isinstance(m, nn.Dropout)]
        self.absent = [(m._parameters, key) for m in modules for key, t in m._parameters.items() if t is None]
        self.places: list[tuple[dict[str, Any], str]] = []
        self.shapes: list[torch.Size | None] = []
        self.tensors: list[Tensor | None] = []
        self.dense: list[Tensor] = []
        self.pointers: list[int] = []
        self.addresses: list[int] = []
        if self.changed:
            return
        official = args.variant == "official"
        first, last = _ENDS[args.variant]
        blocks = [f"{_BLOCKS[args.variant]}.{i}" for i in range(args.n_layer)]
        wanted = (*first, *(f"{block}.{name}" for block in blocks for name in _MIXER), *last)
        kept = dict(chain(fresh.named_parameters(), fresh.named_buffers()))
        for name in wanted:
            self.places.append(_place(model, name))
            self.shapes.append(kept[name].shape if name in kept else None)
        norms = [model.get_submodule(name) for name in (*(f"{block}.norm" for block in blocks), _NORMS[args.variant])]
        self.epsilons: Callable[[], list[float]] = lambda: [float(m.eps) for m in norms]  # type: ignore[arg-type]
        self.sizes = native.CMambaSizes(
            official, args.num_channels, args.seq_len, args.padding, args.patch_len, args.stride, args.num_patches,
            args.d_model, args.n_layer, args.d_inner, args.d_state, args.rank, 0 if official else args.d_conv,
            args.num_channels // args.reduction_ratio if official else 0, args.forecast_len,
        )  # fmt: skip

    def stands(self) -> bool:
        """Return whether the network still has the modules that it was read with; notes what else was done to them."""
        self.done = int(native.changed(self.attributes, self.children))
        return self.done != _MODULES

    def refuses(self) -> str | None:
        """Return why the network as it is now cannot be computed by the compiled forward, or None."""
        if self.changed:
            return "the network has other modules than it was built with"
        if self.done or _global_forward_hooks or _global_forward_pre_hooks:
            return "modules of the network have forward hooks, or a forward of their own"
        if any(m.training for m in self.dropouts):
            return "a dropout of the network is in training mode"
        if added := [name for kept, name in self.absent if kept.get(name) is not None]:
            return f"the network has parameters that it was built without: {', '.join(added)}"
        now = [attributes.get(name) for attributes, name in self.places]
        if not (len(self.tensors) == len(now) and all(map(is_, now, self.tensors)) and self._as_read()):
            if wrong := [name for (_, name), t, s in zip(self.places, now, self.shapes, strict=True) if _wrong(t, s)]:
                return f"weights are not dense float32 on the CPU as they were built: {', '.join(wrong)}"
            self.tensors, self.dense = now, [t for t in now if t is not None]
            self.addresses = [_library.pointer(t) for t in now]
            self.pointers = [t.data_ptr() for t in self.dense]
        return None

    def _as_read(self) -> bool:
        """Return whether the memory of the same tensors is where it was; `tensor.data = other` moves it."""
        return list(map(Tensor.data_ptr, self.dense)) == self.pointers and all(map(Tensor.is_contiguous, self.dense))


_readers: "WeakKeyDictionary[CMamba, _Reader]" = WeakKeyDictionary()


def _plan(model: nn.Module) -> list[tuple[Any, ...]]:
    """Return name, type and settings of every module, and name and shape of what it keeps."""
    return [
        (name, type(m), m.extra_repr(), [(k, None if t is None else t.shape) for k, t in _kept(m)])
        for name, m in model.named_modules(remove_duplicate=False)
    ]


def _kept(module: nn.Module) -> Iterator[tuple[str, Tensor | None]]:
    return chain(module._parameters.items(), module._buffers.items())


def _place(model: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Return the dictionary in which a parameter or buffer is found, and its key; an empty one if there is none."""
    path, _, key = name.rpartition(".")
    try:
        owner = model.get_submodule(path)
    except AttributeError:
        return {}, name
    return (owner._buffers if key in owner._buffers else owner._parameters) if name else {}, key


def _wrong(tensor: Any, shape: torch.Size | None) -> bool:
    if tensor is None or shape is None:
        return tensor is not shape
    return (
        type(tensor) not in (Tensor, nn.Parameter)
        or tensor.shape != shape
        or tensor.dtype is not torch.float32
        or not tensor.is_cpu
        or not tensor.is_contiguous()
    )
