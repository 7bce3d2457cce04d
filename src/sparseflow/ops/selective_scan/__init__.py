"""The selective scan of state-space models: step size, decay, recurrence, output and gate in one operator."""

from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import run, watched
from sparseflow.ops.lif import on_triton
from sparseflow.ops.selective_scan import cpp, vectorised
from sparseflow.ops.selective_scan.reference import Operands
from sparseflow.ops.selective_scan.space import OP

__all__ = ["OP", "Operands", "selective_scan"]


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A_log: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    *,
    dt_bias: Tensor | None = None,
    softplus: bool = True,
    initial_state: Tensor | None = None,
    return_state: bool = False,
    kernel: str = "auto",
) -> Any:
    """Run a diagonal state-space recurrence whose step, input and output depend on the data.

    Delta = softplus(dt + dt_bias), A = -exp(A_log), a = exp(Delta A); for k = 0..K-1, each channel e and state n:
    h = a[k] h + Delta[k] x[k] B[k]; y[k] = sum_n h C[k] + D[k] x[k], times silu(z[k]) if there is a gate.
    Computed in float64 if `x` is that, else in float32.

    Args:
        x: `[B, K, E]` input, any float type; B counts sequences (samples times variates).
        dt: `[B, K, E]` step before the softplus.
        A_log: `[E, N]`, or `[1, N]` shared by all channels: logarithm of the decay rate.
        B: `[B, K, N]` input weight of each state.
        C: `[B, K, N]` output weight of each state.
        D: `[B, K, E]` or `[E]` direct term; none if None.
        z: `[B, K, E]` gate before its silu; none if None.
        dt_bias: `[E]` added to `dt`; 0 if None.
        softplus: False takes `dt + dt_bias` itself as the step.
        initial_state: `[B, E, N]` state before the first step; 0 if None.
        return_state: whether to return the last state too.
        kernel: "dense", "cpp", "triton", or "auto" for the fastest that runs; the gradient takes the same.

    Returns:
        y `[B, K, E]` in the type of `x`; with `return_state` the pair of y and the state `[B, E, N]` after the
        last step, float64 if `x` is that, else float32. Gradients flow to all nine tensors.

    Raises:
        ConfigError: operands of other shapes, types or devices, or no such kernel.
        UnsupportedError: the named kernel does not take these operands; says why.

    Cost: 7 N + 12 flops for each of B K E; reads every operand and writes y once.
    Source: Gu and Dao, arXiv 2312.00752, algorithm 2; D and A as in CMamba, arXiv 2406.05316.

    >>> one = torch.ones(1, 2, 1)
    >>> selective_scan(one, one, torch.zeros(1, 1), one, one, softplus=False)
    tensor([[[1.0000],
             [1.3679]]])
    """
    given = Operands(
        x=x, dt=dt, A_log=A_log, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_state=initial_state, softplus=softplus
    )
    _check(given)
    _check_kernel(given, kernel)
    values = (*given.tensors()[1:], softplus, return_state, kernel)
    with torch.no_grad():
        seen = watched(x)
    # torch's dispatcher and its derivative of an operator in Python take longer than the kernels of a short scan.
    direct = not seen and torch.is_grad_enabled()
    apply: Any = _Direct.apply
    y, state = apply(x, *values) if direct else run(_scan, x, *values)
    return (y, state) if return_state else y


def _check(given: Operands) -> None:
    if given.x.ndim != 3 or given.A_log.ndim != 2:
        raise ConfigError(
            f"selective_scan: x has shape {tuple(given.x.shape)} and A_log {tuple(given.A_log.shape)}; "
            "expected [B, K, E] and [1 or E, N]"
        )
    batch, steps, channels, states = given.shape
    wide, narrow = (batch, steps, channels), (batch, steps, states)
    allowed: dict[str, tuple[tuple[int, ...], ...]] = {
        "dt": (wide,),
        "A_log": ((1, states), (channels, states)),
        "B": (narrow,),
        "C": (narrow,),
        "D": (wide, (channels,)),
        "z": (wide,),
        "dt_bias": ((channels,),),
        "initial_state": ((batch, channels, states),),
    }
    for name, shapes in allowed.items():
        tensor = getattr(given, name)
        if tensor is not None and tuple(tensor.shape) not in shapes:
            want = " or ".join(str(list(shape)) for shape in shapes)
            raise ConfigError(
                f"selective_scan: {name} has shape {list(tensor.shape)}; expected {want} "
                f"for x {list(given.x.shape)} and {states} states"
            )
    for name in ("x", *allowed):
        tensor = getattr(given, name)
        if tensor is not None and (not tensor.dtype.is_floating_point or tensor.device != given.x.device):
            raise ConfigError(
                f"selective_scan: {name} is {tensor.dtype} on {tensor.device}; "
                f"expected a float type on {given.x.device}, as x"
            )


def _check_kernel(given: Operands, kernel: str) -> None:
    if kernel not in ("auto", "dense", "cpp", "triton"):
        raise ConfigError(f"selective_scan: kernel is {kernel!r}; expected 'auto', 'dense', 'cpp' or 'triton'")
    reason = cpp.refuses(given) if kernel == "cpp" else None
    if kernel == "triton" and not on_triton(given.x):
        reason = (
            f"takes CUDA tensors up to float32, and Triton must be installed; x is {given.x.dtype} on {given.x.device}"
        )
    if reason is not None:
        raise UnsupportedError(f"selective_scan: kernel {kernel!r} cannot run: {reason}")


@torch.library.custom_op("sparseflow::selective_scan", mutates_args=())
def _scan(
    x: Tensor,
    dt: Tensor,
    A_log: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    softplus: bool,
    want_state: bool,
    kernel: str,
) -> tuple[Tensor, Tensor]:
    given = _operands(x, dt, A_log, B, C, D, z, dt_bias, initial_state, softplus)
    if kernel in ("auto", "triton") and _fits_triton(given):
        from sparseflow.ops.selective_scan import triton

        y, state = triton.forward(given, want_state)
    else:
        compiled = cpp.forward(given, want_state) if kernel in ("auto", "cpp") else None
        y, state = vectorised.forward(given) if compiled is None else compiled
    return y, state if want_state and state is not None else _no_state(given)


@_scan.register_fake
def _(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    given, want_state = _operands(x, *rest[:-2]), rest[-2]
    batch, _steps, channels, states = given.shape
    state = x.new_empty((batch, channels, states), dtype=given.dtype) if want_state else _no_state(given)
    return x.new_empty(x.shape), state


@torch.library.custom_op("sparseflow::selective_scan_backward", mutates_args=())
def _backward(
    grad_y: Tensor,
    grad_state: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A_log: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    softplus: bool,
    kernel: str,
) -> list[Tensor]:
    given = _operands(x, dt, A_log, B, C, D, z, dt_bias, initial_state, softplus)
    if kernel in ("auto", "triton") and _fits_triton(given):
        from sparseflow.ops.selective_scan import triton

        grads = triton.backward(given, grad_y, grad_state)
    else:
        compiled = cpp.backward(given, grad_y, grad_state) if kernel in ("auto", "cpp") else None
        grads = vectorised.backward(given, grad_y, grad_state) if compiled is None else compiled
    return [x.new_empty(0) if g is None else g for g in grads]


@_backward.register_fake
def _(grad_y: Tensor, grad_state: Tensor | None, x: Tensor, *rest: Any) -> list[Tensor]:
    given = _operands(x, *rest[:-1])
    return [x.new_empty(0) if t is None else t.new_empty(t.shape) for t in given.tensors()]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.softplus, ctx.want_state, ctx.kernel = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad_y: Tensor, grad_state: Tensor, backward: Any = _backward) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    grads = backward(grad_y, grad_state if ctx.want_state else None, *tensors, ctx.softplus, ctx.kernel)
    return *(None if t is None else g for t, g in zip(tensors, grads, strict=True)), None, None, None


_scan.register_autograd(_differentiate, setup_context=_save)


class _Direct(torch.autograd.Function):
    """The operator and its gradient without the dispatcher, where nobody else watches."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        """Return y and the state."""
        y, state = _scan._init_fn(*inputs)
        _save(ctx, inputs, None)
        if not ctx.want_state:
            ctx.mark_non_differentiable(state)
        return y, state

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> Any:
        """Return the gradients of the inputs."""
        # Where they are to be differentiated again, the operator knows that it has no gradient, and says so.
        return _differentiate(ctx, grad_y, grad_state, _backward if torch.is_grad_enabled() else _backward._init_fn)


def _operands(*values: Any) -> Operands:
    names = ("x", "dt", "A_log", "B", "C", "D", "z", "dt_bias", "initial_state", "softplus")
    return Operands(**dict(zip(names, values, strict=True)))


def _fits_triton(given: Operands) -> bool:
    return on_triton(given.x) and 0 not in given.shape


def _no_state(given: Operands) -> Tensor:
    return given.x.new_empty(0, dtype=given.dtype)
