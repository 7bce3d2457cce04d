"""Recorder: run a model once and write down which call made every tensor that another call read."""

import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from sparseflow.errors import CaptureError
from sparseflow.trace._state import state_tensors
from sparseflow.trace._stems import function_attrs, function_stem, module_attrs, module_stem
from sparseflow.trace._tensors import describe, dtype_name, shares_memory, tensors_in
from sparseflow.trace.graph import Call, Ref, Weight
from sparseflow.trace.registry import is_spike_source

__all__ = ["Recorder", "is_leaf"]

Versions = list[tuple[torch.Tensor, int]]

_VIEWS = frozenset({"view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "copy"})
_LOOK_INTO = ("torch.nn.modules.container", "torch.nn.modules.transformer")
_OPAQUE = frozenset({"TLastSeqToANNContainer", "TLastMultiStepContainer"})


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module is one operator: spiking neurons, torch's own layers, memory modules without layers."""
    if isinstance(module, torch.jit.ScriptModule) or is_spike_source(module):
        return True
    classes = type(module).__mro__
    if any(cls.__name__ in _OPAQUE for cls in classes):
        return True
    if type(module).__module__.startswith(_LOOK_INTO):
        return False
    if isinstance(module, nn.MultiheadAttention):
        return True
    if any(module.children()):
        return False
    if any(cls.__name__ == "MemoryModule" or cls.__module__ == "sparseflow.nn.layers" for cls in classes):
        return True
    return any(
        cls.__module__.startswith("torch.nn.modules.")
        and not cls.__module__.startswith((*_LOOK_INTO, "torch.nn.modules.module"))
        and not cls.__name__.startswith("_")
        for cls in classes
    )


def _versions(tensors: list[torch.Tensor]) -> Versions:
    return [(t, -1 if t.is_inference() else t._version) for t in tensors]


def _writes(func: Callable[..., Any]) -> bool:
    """Tell by its name whether a function writes into its first argument; inference tensors count no writes."""
    name = getattr(func, "__name__", "")
    inplace = name.endswith("_") and not name.endswith("__")
    return inplace or name == "__setitem__" or (name.startswith("__i") and name not in ("__invert__", "__index__"))


def _call_site(scope: str) -> tuple[Any, ...]:
    """Return the code positions between here and the module whose forward runs."""
    frame: FrameType | None = sys._getframe(2)
    places: list[Any] = [scope]
    while frame is not None and frame.f_code.co_name != "_call_impl" and len(places) < 64:
        places.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return tuple(places)


class _Births(TorchDispatchMode):
    """Notes every tensor that any operator derives from one that a call made, seen or not."""

    def __init__(self, made: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.derived: Any = WeakTensorKeyDictionary()
        self._made = made

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator."""
        result = func(*args, **(kwargs or {}))
        if any(t in self._made or t in self.derived for t in tensors_in((args, kwargs))):
            for tensor in tensors_in(result):
                self.derived[tensor] = True
        return result


class Recorder(TorchFunctionMode):
    """Writes down the calls of one forward.

    Leaf modules are one call each; outside of them every torch function that
    makes or changes a tensor is one. A tensor is followed by identity, and by
    its storage where it is written to.

    Args:
        model: the model that will run.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.notes: list[str] = []
        self.ran: dict[str, nn.Module] = {}
        self._model = model
        self._paths = {id(module): name for name, module in model.named_modules()}
        self._fixed: dict[int, tuple[str, torch.Tensor]] = {}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._fixed.setdefault(id(tensor), (name, tensor))
        self._made: Any = WeakTensorKeyDictionary()
        self._scopes: list[str] = []
        self._inside_leaf = 0
        self._births = _Births(self._made)
        self._nearest: list[frozenset[str]] = []
        self._weights: dict[int, Weight] = {}
        self._pending: tuple[list[torch.Tensor], tuple[Ref, ...], Versions] | None = None
        self._handles: list[RemovableHandle] = []
        self._sites: dict[tuple[Any, ...], dict[frozenset[str], str]] = {}
        self._names: set[str] = set(self._paths.values()) | {"input", "output"}

    def __enter__(self) -> "Recorder":
        """Hook the modules and start to listen."""
        for module in self._model.modules():
            leaf = is_leaf(module)
            before = self._leaf_before if leaf else self._scope_before
            after = self._leaf_after if leaf else self._scope_after
            self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(after, with_kwargs=True))
        self._births.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop to listen and take the hooks away."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._births.__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def add_inputs(self, sample: Any) -> None:
        """Name the tensors of the sample as the graph's inputs."""
        for n, tensor in enumerate(tensors_in(sample)):
            name = "input" if n == 0 else self._unique(f"input_{n}")
            self._append(name, "input", "input", name, [], (), [tensor])

    def add_outputs(self, outputs: Any) -> None:
        """Name the tensors that the model returned as the graph's output."""
        found = list(tensors_in(outputs))
        self._append("output", "output", "output", "output", found, self._known(found), [])

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one torch function and write it down if it made or changed a tensor."""
        kwargs = kwargs or {}
        if self._inside_leaf:
            return func(*args, **kwargs)
        given = list(tensors_in((args, kwargs)))
        before = _versions(given)
        refs = self._known(given)
        result = func(*args, **kwargs)
        made = list(tensors_in(result))
        written = [t for t, version in before if version >= 0 and t._version != version]
        if before and before[0][1] < 0 and _writes(func):
            written.append(given[0])
        stem = function_stem(func)
        if not made and not written:
            self._left_torch(stem, refs)
        elif written or not all(any(t is g for g in given) for t in made):
            self._function(func, stem, args, kwargs, given, refs, made, written)
        return result

    def _function(
        self,
        func: Callable[..., Any],
        stem: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: list[torch.Tensor],
        refs: tuple[Ref, ...],
        made: list[torch.Tensor],
        written: list[torch.Tensor],
    ) -> None:
        scope = self._scopes[-1] if self._scopes else ""
        attrs = function_attrs(stem, args, kwargs)
        if stem == "dropout" and (kwargs.get("training") or (len(args) > 2 and args[2] is True)):
            stem = "random_dropout"
        if stem in ("add", "sub", "mul", "div", "maximum", "rsub") and len(given) == 1:
            attrs["scalar"] = next(
                (float(a) for a in (*args, *kwargs.values()) if isinstance(a, (int, float)) and a is not True), 0.0
            )
        if stem == "pad":
            attrs["mode"] = str(kwargs.get("mode", args[2] if len(args) > 2 else "constant"))
            attrs["fill"] = float(kwargs.get("value") or (args[3] if len(args) > 3 and args[3] else 0.0))
        if stem == "upsample":
            attrs["mode"] = str(kwargs.get("mode", args[3] if len(args) > 3 else "nearest"))
        kind = "function" if refs else "constant"
        if kind == "constant" and any(id(t) in self._fixed for t in given):
            kind = "function"
        behind = self._behind(refs).union(self._fixed[id(t)][0] for t in given if id(t) in self._fixed)
        name, site = self._site_name((_call_site(scope), stem), scope, stem, behind)
        results = [t for t in made if not any(t is w for w in written)] if written else made
        call = self._append(
            name, kind, stem, getattr(func, "__name__", stem), given, refs, written[:1] or results, attrs=attrs,
            params=self._params(stem, args, kwargs), written=bool(written), site=site,
            behind=behind,
        )  # fmt: skip
        if written:
            self._rewrite(written, call)
            for tensor in results:
                self._made[tensor] = (call.index, 0)

    def _leaf_before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._inside_leaf:
            with torch._C.DisableTorchFunction():
                given = list(tensors_in((args, kwargs)))
                self._pending = (given, self._known(given), _versions(given))
        self._inside_leaf += 1

    def _leaf_after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self._inside_leaf -= 1
        if self._inside_leaf or self._pending is None:
            return
        with torch._C.DisableTorchFunction():
            given, refs, before = self._pending
            written = [t for t, version in before if version >= 0 and t._version != version]
            path = self._paths[id(module)]
            self.ran[path] = module
            params = dict((*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)))
            made = list(tensors_in(output))
            stem, attrs = module_stem(module), module_attrs(module)
            if isinstance(module, nn.Upsample):
                attrs["mode"] = module.mode
            source = is_spike_source(module)
            name = path or "model"
            if not (source or stem.startswith(("conv", "linear"))):
                name = self._module_name(name, self._behind(refs[:1]))
            call = self._append(
                name, "module", stem, path, given, refs, made, attrs=attrs, params=params, source=source,
                written=bool(written),
            )  # fmt: skip
            if written:
                self._rewrite(written, call)

    def _scope_before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._inside_leaf:
            self._scopes.append(self._paths[id(module)])

    def _scope_after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._inside_leaf:
            self._scopes.pop()

    def _left_torch(self, stem: str, refs: tuple[Ref, ...]) -> None:
        if not refs:
            return
        scope = (self._scopes[-1] if self._scopes else "") or type(self._model).__name__
        if stem in ("numpy", "array", "dlpack"):
            raise CaptureError(f"{scope} turns a tensor into a {stem} array, whose readers cannot be seen; use torch")
        if stem in ("item", "tolist", "cast", "index", "equal", "allclose"):
            note = f"{scope} reads tensor values in Python; the graph holds for this sample's values"
            if note not in self.notes:
                self.notes.append(note)

    def _known(self, tensors: list[torch.Tensor]) -> tuple[Ref, ...]:
        """Return where each tensor came from, leaving out parameters; adopt constants of the model."""
        found = []
        for tensor in tensors:
            ref = self._made.get(tensor)
            if ref is None and id(tensor) not in self._fixed:
                ref = self._adopt(tensor)
            if ref is not None:
                found.append(ref)
        return tuple(found)

    def _adopt(self, tensor: torch.Tensor) -> Ref:
        """Take in a tensor that no call made: state of a leaf, or a constant unless it was derived unseen."""
        for path, module in self.ran.items():
            if any(tensor is held for held in state_tensors(module)):
                call = next(call for call in reversed(self.calls) if call.target == path)
                node = f"{path}.state" if path else "state"
                return (self._append(node, "function", "state", "state", [], ((call.index, 0),), [tensor]).index, 0)
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        hidden = wrapped or tensor in self._births.derived
        with torch._C.DisableTorchFunction():
            hidden = hidden or any(shares_memory(tensor, other) for other in list(self._made))
        if hidden:
            scope = (self._scopes[-1] if self._scopes else "") or type(self._model).__name__
            raise CaptureError(
                f"{scope} reads a tensor of shape {tuple(tensor.shape)} that was made where the recorder cannot see;"
                " make it with a torch function"
            )
        name = self._unique("constant")
        return (self._append(name, "constant", "constant", name, [], (), [tensor]).index, 0)

    def _params(self, stem: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        weighty = stem.startswith("conv") or stem in ("linear", "batch_norm", "layer_norm", "embedding")
        for n, (key, value) in enumerate((*((str(i), a) for i, a in enumerate(args)), *kwargs.items())):
            if isinstance(value, torch.Tensor) and id(value) in self._fixed and value not in self._made:
                named = ("input", "weight", "bias")[n] if weighty and key.isdigit() and n < 3 else key
                found[f"arg{key}" if named.isdigit() else named] = value
        return found

    def _weighed(self, params: dict[str, torch.Tensor]) -> dict[str, Weight]:
        for tensor in params.values():
            if id(tensor) not in self._weights:
                known = tensor.numel() and not (tensor.is_sparse or tensor.is_quantized)
                density = int(tensor.count_nonzero()) / tensor.numel() if known else None
                self._weights[id(tensor)] = Weight(tuple(tensor.shape), dtype_name(tensor), density)
        return {name: self._weights[id(tensor)] for name, tensor in params.items()}

    def _rewrite(self, written: list[torch.Tensor], call: Call) -> None:
        """Let every live tensor that overlaps a written one come from the write."""
        for target in written:
            storage = target.untyped_storage()._cdata
            for other in list(self._made):
                if other is target or other.untyped_storage()._cdata != storage:
                    continue
                same = (
                    other.shape == target.shape
                    and other.stride() == target.stride()
                    and other.storage_offset() == target.storage_offset()
                )
                if same:
                    self._made[other] = (call.index, 0)
                elif self._made[other] != (call.index, 0):
                    refs = (self._made[other], (call.index, 0))
                    name = self._unique("alias")
                    self._append(name, "function", "alias", "alias", [other, target], refs, [other])
            self._made[target] = (call.index, 0)

    def _behind(self, refs: tuple[Ref, ...]) -> frozenset[str]:
        """Return the modules, inputs, constants and parameters that tensors come from, functions passed through."""
        return frozenset[str]().union(*(self._nearest[i] for i, _ in refs))

    def _site_name(self, place: tuple[Any, ...], scope: str, stem: str, behind: frozenset[str]) -> tuple[str, str]:
        """Fold calls from one place in the code with the same things behind them; name the others apart.

        Steps of a loop over time have the same modules behind them, turns of a loop over layers have not.
        """
        groups = self._sites.setdefault(place, {})
        if behind not in groups:
            groups[behind] = self._unique(f"{scope}.{stem}" if scope else stem)
        return groups[behind], next(iter(groups.values()))

    def _module_name(self, path: str, behind: frozenset[str]) -> str:
        """Return the path where a layer without weights worth naming runs first, a name of its own elsewhere."""
        groups = self._sites.setdefault((path,), {})
        if behind not in groups:
            groups[behind] = self._unique(path) if groups else path
        return groups[behind]

    def _unique(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self._names:
            candidate = f"{name}_{n}"
            n += 1
        self._names.add(candidate)
        return candidate

    def _append(
        self,
        node: str,
        kind: str,
        op: str,
        target: str,
        given: list[torch.Tensor],
        refs: tuple[Ref, ...],
        made: list[torch.Tensor],
        *,
        attrs: dict[str, Any] | None = None,
        params: dict[str, torch.Tensor] | None = None,
        source: bool = False,
        written: bool = False,
        site: str = "",
        behind: frozenset[str] = frozenset(),
    ) -> Call:
        with torch._C.DisableTorchFunction():
            index = len(self.calls)
            shapes = tuple(tuple(self.calls[i].output_shapes[slot]) for i, slot in refs)
            if op in _VIEWS and len(refs) == 1 and not written and made and made[0].numel() == math.prod(shapes[0]):
                i, slot = refs[0]
                stats = [(self.calls[i].nonzero[slot], self.calls[i].values[slot])]
            else:
                stats = [describe(t) for t in made]
            attrs = dict(attrs or {})
            if made and given and not written and shares_memory(made[0], given[0]):
                attrs["view"] = True
            call = Call(
                index=index, node=node, kind=kind, op=op, target=target, inputs=refs, input_shapes=shapes,
                output_shapes=tuple(tuple(t.shape) for t in made), nonzero=tuple(n for n, _ in stats),
                values=tuple(v for _, v in stats), dtypes=tuple(dtype_name(t) for t in made),
                attrs=attrs, params=self._weighed(params or {}), source=source, written=written,
                site=site or node,
            )  # fmt: skip
            self.calls.append(call)
            passed = kind == "function"
            self._nearest.append((behind or self._behind(refs)) if passed else frozenset({node}))
            for slot, tensor in enumerate(made):
                self._made[tensor] = (index, slot)
            return call
