"""PackedNet: a network that runs through packed layers, on a GPU as one CUDA graph for each shape of input."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sparseflow.errors import ConfigError, SparseFlowError
from sparseflow.nn._spent import SPENT, refuse_spent
from sparseflow.nn._stamp import stamp
from sparseflow.nn.fused_net import FusedNet, Shapes, asks_for_gradient

__all__ = ["PackedNet"]

_WARMUP = 3
_MOST_GRAPHS = 8


@dataclass(frozen=True, slots=True)
class _Shot:
    """One captured CUDA graph.

    Args:
        graph: replays the forward.
        inputs: tensors that it reads, None for arguments that are no tensors.
        states: potential of each neuron that it reads and writes; empty where states are not kept.
        output: what it writes.
        made: stamp of the weights that it reads.
    """

    graph: Any
    inputs: tuple[Tensor | None, ...]
    states: tuple[Tensor, ...]
    output: Any
    made: tuple[int, ...]


@dataclass(slots=True)
class _Runtime:
    """What a network learns while it runs, and forgets when it is moved or copied.

    Args:
        shots: captured graphs by shapes and types.
        watched: where every weight lives.
        slots: where every state lives, with its potential at rest.
        failure: why no graph could be captured, or None.
    """

    shots: dict[Any, _Shot] = field(default_factory=dict)
    watched: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    slots: list[tuple[dict[str, Any], float]] = field(default_factory=list)
    failure: str | None = None


class PackedNet(FusedNet):
    """The modules and the state dict of a model, run through a graph of packed layers.

    On CUDA inputs the graph is captured once for each combination of shapes and
    types, and replayed: one launch, no synchronisation with the host. The result
    is copied out, so that it stays what it is at the next call. Elsewhere, with
    keyword arguments, inside another capture, or where a capture failed
    (`capture_failure` says why), the same graph runs layer by layer. With a
    gradient, or in training mode, the model's own forward runs. Weights that
    were changed are packed, and graphs captured, anew. Replays share their
    buffers: use one stream at a time.

    State: with `keep_state` the neurons' `v` is read and written, as the model
    does; a `v` read from outside changes at the next call. Without, every call
    starts at rest and computes no last potential: `v` then holds a mark, and a
    call before the neurons were reset raises.

    Args:
        model: the model; its modules become those of this one.
        graph: a module over the same weights, which reads and writes `v` if `keep_state`.
        neurons: the neurons whose state it stands for, each with its potential at rest.
        keep_state: carry the state from call to call.
        capture: capture CUDA graphs; False where the graph holds state that a replay would miss.
        tf32: let float32 convolutions multiply in TF32.
        shapes: as for `FusedNet`: on inputs of other shapes the model's own forward runs.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: nn.Module,
        neurons: Sequence[tuple[nn.Module, float]] = (),
        *,
        keep_state: bool = False,
        capture: bool = True,
        tf32: bool = True,
        shapes: Shapes | None = None,
    ) -> None:
        super().__init__(model, graph, shapes=shapes)
        self._neurons = tuple(neurons)
        self.keep_state, self.capture, self.tf32 = keep_state, capture, tf32
        self._runtime = _Runtime()

    @property
    def capture_failure(self) -> str | None:
        """Why no CUDA graph could be captured, or None."""
        return self._runtime.failure

    def replay_of(self, args: tuple[Any, ...]) -> Callable[[], Any] | None:
        """Return what runs the captured graph for such arguments once more, or None if there is no such graph.

        It computes on the arguments of the last call, resets nothing, and leaves the states alone: for timing.
        What it returns is overwritten by the next replay; by its device a clock knows what to wait for.
        """
        shot = self._runtime.shots.get(_key(args))
        if shot is None or self.keep_state:
            return None

        def replay() -> Any:
            shot.graph.replay()
            return shot.output

        return replay

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns.

        Raises:
            ConfigError: the neurons were not reset since the last call (`keep_state` off).
        """
        if self.training or (torch.is_grad_enabled() and asks_for_gradient(args, kwargs)):
            return self._by_model(args, kwargs)
        if torch.compiler.is_compiling():
            with torch.no_grad():
                return (self._graph[0] if self._holds_for(args, kwargs) else self._plain[0])(*args, **kwargs)
        self._look_up()
        if not self.keep_state:
            for holder, rest in self._runtime.slots:
                v = holder["v"]
                if isinstance(v, Tensor) or v is SPENT or v != rest:
                    refuse_spent()
        if not self._holds_for(args, kwargs):
            with torch.no_grad():
                return self._by_model(args, kwargs)
        made = self._replayed(args) if self.capture and not kwargs and self._can_capture(args) else None
        if made is None:
            with torch.no_grad(), self._settings():
                made = self._graph[0](*args, **kwargs)
        if not self.keep_state:
            for holder, _ in self._runtime.slots:
                holder["v"] = SPENT
        return made

    def _by_model(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the model's own forward, on states in the type that it computes in."""
        for neuron, _ in self._neurons:
            v: Any = neuron.v
            if isinstance(v, Tensor) and v.dtype in (torch.float16, torch.bfloat16):
                neuron.v = v.float()
        return self._plain[0](*args, **kwargs)

    def _look_up(self) -> None:
        """Find where the state and the weights live; attribute access of modules is too slow for every call."""
        if self._neurons and not self._runtime.slots:
            for neuron, rest in self._neurons:
                own = neuron.__dict__
                self._runtime.slots.append((own if "v" in own else own["_memories"], rest))
        if not self._runtime.watched:
            found: dict[int, nn.Module] = {}
            for block in self._graph[0].modules():
                behind = [m for part in getattr(block, "parts", ()) for m in (part.layer, part.bn)]
                membrane = getattr(block, "_membrane", None)
                for m in (block, *behind, *getattr(block, "sources", ()), getattr(membrane, "neuron", None)):
                    if isinstance(m, nn.Module):
                        found[id(m)] = m
            for module in found.values():
                for tensors in (module._parameters, module._buffers):
                    self._runtime.watched += [(tensors, name) for name, tensor in tensors.items() if tensor is not None]

    def _can_capture(self, args: tuple[Any, ...]) -> bool:
        tensors = [a for a in args if isinstance(a, Tensor)]
        return (
            self._runtime.failure is None
            and bool(tensors)
            and all(t.is_cuda and type(t) is Tensor for t in tensors)
            and all(isinstance(a, Tensor | int | float | str | bool | None) for a in args)
            and not torch.cuda.is_current_stream_capturing()
            and torch._C._len_torch_dispatch_stack() == 0
        )

    def _replayed(self, args: tuple[Any, ...]) -> Any:
        """Return the result of a replay, or None if no graph can be captured."""
        key = _key(args)
        shot = self._runtime.shots.get(key)
        if shot is not None and self.keep_state and self._stamp() != shot.made:
            shot = None
        if shot is None:
            try:
                shot = self._shoot(args)
            except SparseFlowError:
                raise
            except Exception as e:
                # Whatever cannot be captured still runs layer by layer; the reason is kept for the report.
                self._runtime.failure = f"{type(e).__name__}: {e}"
                with suppress(RuntimeError):
                    torch.cuda.synchronize()
                return None
            while len(self._runtime.shots) >= _MOST_GRAPHS:
                del self._runtime.shots[next(iter(self._runtime.shots))]
            self._runtime.shots[key] = shot
        for static, given in zip(shot.inputs, args, strict=True):
            if static is not None:
                static.copy_(given)
        self._load_states(shot)
        shot.graph.replay()
        if not self.keep_state and self._stamp() != shot.made:
            # Seen while the GPU is at work; no state was written, so the call is only made again.
            del self._runtime.shots[key]
            return self._replayed(args)
        if isinstance(shot.output, Tensor):
            return shot.output.clone()
        return tree_map_only(Tensor, torch.clone, shot.output)

    def _stamp(self) -> tuple[int, ...]:
        """Return numbers that change when a weight does."""
        return stamp(*[tensors[name] for tensors, name in self._runtime.watched])

    def _load_states(self, shot: _Shot) -> None:
        for (holder, _), static in zip(self._runtime.slots if shot.states else (), shot.states, strict=True):
            v = holder["v"]
            if v is static:
                continue
            if not isinstance(v, Tensor):
                static.fill_(float(v))
            elif v.shape == static.shape:
                static.copy_(v)
            else:
                raise ConfigError(
                    f"a neuron holds a state of shape {tuple(v.shape)} and got a step of shape {tuple(static.shape)}; "
                    "call reset_net(model) between inputs"
                )
            holder["v"] = static

    @torch.inference_mode(False)
    @torch.no_grad()
    def _shoot(self, args: tuple[Any, ...]) -> _Shot:
        """Capture the forward for inputs like these; the states are left as they were."""
        module = self._graph[0]
        device = next(a.device for a in args if isinstance(a, Tensor))
        before = [holder["v"] for holder, _ in self._runtime.slots]
        with torch.cuda.device(device), self._settings():
            inputs = tuple(_copy(a) if isinstance(a, Tensor) else None for a in args)
            given = [a if static is None else static for a, static in zip(args, inputs, strict=True)]
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            states: list[Tensor] = []
            try:
                aside.wait_stream(here)
                with torch.cuda.stream(aside):
                    for _ in range(_WARMUP):
                        for (holder, _), v in zip(self._runtime.slots, before, strict=True):
                            holder["v"] = v
                        module(*given)
                    if self.keep_state:
                        states = [holder["v"].clone() for holder, _ in self._runtime.slots]
                here.wait_stream(aside)
                for (holder, _), state in zip(self._runtime.slots if states else (), states, strict=True):
                    holder["v"] = state
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    output = module(*given)
                    for (holder, _), state in zip(self._runtime.slots if states else (), states, strict=True):
                        state.copy_(holder["v"])
            finally:
                for (holder, _), v in zip(self._runtime.slots, before, strict=True):
                    holder["v"] = v
        return _Shot(graph, inputs, tuple(states), output, self._stamp())

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Let the library choose its fastest algorithm, in the precision that was asked for."""
        cudnn = torch.backends.cudnn
        if not torch.cuda.is_available():
            yield
            return
        with cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=True,
            benchmark_limit=cudnn.benchmark_limit,
            deterministic=cudnn.deterministic,
            allow_tf32=self.tf32 and cudnn.allow_tf32,
        ):
            yield

    def _forget(self) -> None:
        super()._forget()
        self._runtime = _Runtime()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._runtime = _Runtime()
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        # CUDA graphs can be neither copied nor stored, and dictionaries would be those of the original.
        return {**self.__dict__, "_runtime": _Runtime()}


def _key(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((a.shape, a.dtype, a.device) if isinstance(a, Tensor) else (type(a), a) for a in args)


def _copy(x: Tensor) -> Tensor:
    """Return a dense copy that is written before every replay."""
    return torch.empty_like(x).copy_(x)
