"""Integrate-and-fire neurons with SpikingJelly's mathematics and argument names.

One step charges the membrane, fires and resets:

    IF:    h = v + x
    LIF:   h = v + (x - (v - v_r)) / tau          (decay_input)
           h = v - (v - v_r) / tau + x            (otherwise)
    PLIF:  as LIF with 1 / tau = sigmoid(w), w learnt
    fire:  s = [h >= v_threshold]
    reset: v = v_r where s, else h                (v_reset given, "hard")
           v = h - v_threshold * s                (v_reset None, "soft"; v_r counts as 0)

Shapes: `[N, ...]` a step (`step_mode="s"`), `[T, N, ...]` a sequence
(`step_mode="m"`). The state `v` persists from call to call until `reset()`.

Source: Fang et al., Science Advances 2023 (SpikingJelly); PLIF: Fang et al.,
ICCV 2021.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.ops.fire import fire

__all__ = ["ATan", "IFNode", "LIFNode", "ParametricLIFNode", "Sigmoid", "SpikingNode"]


class _ATanStep(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, alpha: float) -> Tensor:
        return (x >= 0).to(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.alpha = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        a = ctx.alpha / 2
        ax = math.pi * a * x
        return grads[0] * (a / (1 + ax * ax)), None


class _SigmoidStep(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, alpha: float) -> Tensor:
        return (x >= 0).to(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.alpha = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x * ctx.alpha)
        return grads[0] * (1.0 - s) * s * ctx.alpha, None


class ATan:
    """Heaviside step whose gradient is alpha / (2 (1 + (pi alpha x / 2)²)).

    Args:
        alpha: steepness of the surrogate gradient.

    >>> ATan()(torch.tensor([-0.5, 0.0, 2.0]))
    tensor([0., 1., 1.])
    """

    def __init__(self, alpha: float = 2.0) -> None:
        self.alpha = alpha

    def __call__(self, x: Tensor) -> Tensor:
        """Return 1 where x >= 0, else 0."""
        return cast(Tensor, _ATanStep.apply(x, self.alpha))  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return f"ATan(alpha={self.alpha})"


class Sigmoid:
    """Heaviside step whose gradient is that of sigmoid(alpha x).

    Args:
        alpha: steepness of the surrogate gradient.
    """

    def __init__(self, alpha: float = 4.0) -> None:
        self.alpha = alpha

    def __call__(self, x: Tensor) -> Tensor:
        """Return 1 where x >= 0, else 0."""
        return cast(Tensor, _SigmoidStep.apply(x, self.alpha))  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return f"Sigmoid(alpha={self.alpha})"


class SpikingNode(nn.Module):
    """What all neurons share: state, step modes, firing and reset.

    Half-precision inputs are integrated in float32; the spikes keep the dtype
    and the memory format of the input.

    With the attribute `fused` set, a sequence that starts at rest runs as one operator
    (`ops.fire`), for training: faster, but the voltage is forgotten at its end. Neurons
    that it does not know run as ever.

    With the attribute `analog` set, it gives instead the rate at which a constant input makes
    it fire, between 0 and 1, and has no state; see `rate`.

    Args:
        v_threshold: firing threshold.
        v_reset: voltage after a spike, or None for reset by subtraction.
        surrogate_function: step function with a surrogate gradient.
        detach_reset: cut the gradient through the reset.
        step_mode: "s" for `[N, ...]` inputs, "m" for `[T, N, ...]`.
        store_v_seq: keep the voltage after every step of a sequence in `v_seq`.

    Raises:
        ConfigError: an argument out of range, or an input that does not fit the state.
    """

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
    ) -> None:
        super().__init__()
        if step_mode not in ("s", "m"):
            raise ConfigError(f"step_mode is {step_mode!r}; expected 's' or 'm'")
        if not math.isfinite(v_threshold) or not math.isfinite(v_reset or 0.0):
            raise ConfigError(f"v_threshold={v_threshold} and v_reset={v_reset} must be finite")
        self.v_threshold = float(v_threshold)
        self.v_reset = None if v_reset is None else float(v_reset)
        self.surrogate_function: Callable[[Tensor], Tensor] = surrogate_function or ATan()
        self.detach_reset = detach_reset
        self.step_mode = step_mode
        self.store_v_seq = store_v_seq
        self.fused = False
        self.analog = False
        self.v: float | Tensor = 0.0
        self.v_seq: Tensor | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the state: the next call starts from `v_reset` (0 if soft)."""
        self.v = 0.0 if self.v_reset is None else self.v_reset
        self.v_seq = None

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the voltage h after the input `x` of one step."""
        raise NotImplementedError

    def rate(self, x: Tensor) -> Tensor:
        """Return the spikes a step that a constant input `x` brings about, a line between silence and one a step.

        Raises:
            ConfigError: this kind of neuron has no such line.
        """
        raise ConfigError(f"{type(self).__name__} has no analog form")

    def _step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        h = self.charge(x, v)
        spike = self.surrogate_function(h - self.v_threshold)
        s = spike.detach() if self.detach_reset else spike
        if self.v_reset is None:
            return spike, h - s * self.v_threshold
        return spike, s * self.v_reset + (1.0 - s) * h

    def _state(self, x: Tensor) -> Tensor:
        if not isinstance(self.v, Tensor):
            return torch.full_like(x, self.v)
        if self.v.shape != x.shape:
            raise ConfigError(
                f"{type(self).__name__} holds a state of shape {tuple(self.v.shape)} and got a step of shape "
                f"{tuple(x.shape)}; call reset_net(model) between inputs"
            )
        return self.v

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes, 0 or 1, in the shape and dtype of `x`."""
        if self.analog:
            return self.rate(x)
        half = x.dtype in (torch.float16, torch.bfloat16)
        if self.step_mode == "s":
            step = x.float() if half else x
            spike, self.v = self._step(step, self._state(step))
            return spike.to(x.dtype)
        if x.ndim < 2:
            raise ConfigError(f"step_mode 'm' needs [T, N, ...]; got shape {tuple(x.shape)}")
        if self.fused and isinstance(self.v, float) and self._plain:
            return self._fire(x)
        spikes, voltages = [], []
        v: Tensor | None = None
        for t in range(x.shape[0]):
            step = x[t].float() if half else x[t]
            spike, v = self._step(step, self._state(step) if v is None else v)
            spikes.append(spike.to(x.dtype))
            voltages.append(v)
        if v is None:
            return torch.empty_like(x)
        self.v = v
        self.v_seq = torch.stack(voltages) if self.store_v_seq else None
        # cat keeps channels_last, stack does not.
        return torch.cat(spikes).view(x.shape)

    @property
    def _plain(self) -> bool:
        """Whether `fire` knows this neuron's mathematics."""
        return type(self) in (IFNode, LIFNode) and type(self.surrogate_function) is ATan and not self.store_v_seq

    def _fire(self, x: Tensor) -> Tensor:
        surrogate = cast(ATan, self.surrogate_function)
        # Flattening a repeated input would copy it to another memory format; cat keeps channels_last.
        flat = torch.cat(list(x)) if x.stride(0) == 0 else x.flatten(0, 1)
        spikes = fire(
            flat,
            steps=x.shape[0],
            tau=getattr(self, "tau", 2.0),
            leak=isinstance(self, LIFNode),
            decay_input=getattr(self, "decay_input", False),
            threshold=self.v_threshold,
            v_reset=self.v_reset,
            detach_reset=self.detach_reset,
            alpha=surrogate.alpha,
        )
        return spikes.view(x.shape)

    def extra_repr(self) -> str:
        """Return the arguments that differ between layers."""
        return f"v_threshold={self.v_threshold}, v_reset={self.v_reset}, step_mode={self.step_mode!r}"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "SpikingNode":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if isinstance(self.v, Tensor):
            self.v = fn(self.v)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # A state that belongs to an autograd graph can be neither copied nor stored.
        state = dict(self.__dict__)
        for name in ("v", "v_seq"):
            if isinstance(state[name], Tensor):
                state[name] = state[name].detach()
        return state


class IFNode(SpikingNode):
    """Integrate-and-fire neuron without leak: h = v + x.

    >>> IFNode(step_mode="m")(torch.full((3, 1), 0.5)).flatten()
    tensor([0., 1., 0.])
    """

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """Return v + x."""
        return v + x

    def rate(self, x: Tensor) -> Tensor:
        """Return x / threshold within 0 and 1, the threshold counted from rest."""
        r = 0.0 if self.v_reset is None else self.v_reset
        return (x / (self.v_threshold - r)).clamp(0.0, 1.0)


class LIFNode(SpikingNode):
    """Leaky integrate-and-fire neuron.

    Args:
        tau: membrane time constant in steps, above 1.
        decay_input: whether the input decays with the membrane.
        v_threshold: see `SpikingNode`, as all that follow.
        v_reset: see `SpikingNode`.
        surrogate_function: see `SpikingNode`.
        detach_reset: see `SpikingNode`.
        step_mode: see `SpikingNode`.
        store_v_seq: see `SpikingNode`.

    >>> LIFNode(tau=2.0, step_mode="m")(torch.full((3, 1), 1.5)).flatten()
    tensor([0., 1., 0.])
    """

    def __init__(
        self,
        tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
    ) -> None:
        if not tau > 1.0:
            raise ConfigError(f"tau is {tau}; expected a number above 1")
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq)
        self.tau = float(tau)
        self.decay_input = decay_input

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the leaky voltage after `x`."""
        r = 0.0 if self.v_reset is None else self.v_reset
        if self.decay_input:
            return v + (x - (v - r)) / self.tau
        return v - (v - r) / self.tau + x

    def rate(self, x: Tensor) -> Tensor:
        """Return the spikes a step that a constant input `x` brings about.

        With g the threshold counted from rest and u = x, or τ·x without decay of the input, a neuron
        is silent below u = g and fires at every step from u = τ·g on: (u - g) / ((τ - 1)·g) within 0 and 1.

        >>> LIFNode().rate(torch.tensor([0.5, 1.5, 3.0]))
        tensor([0.0000, 0.5000, 1.0000])
        """
        r = 0.0 if self.v_reset is None else self.v_reset
        u, gap = (x if self.decay_input else x * self.tau), self.v_threshold - r
        return ((u - gap) / ((self.tau - 1.0) * gap)).clamp(0.0, 1.0)

    def extra_repr(self) -> str:
        """Return the arguments that differ between layers."""
        return f"tau={self.tau}, decay_input={self.decay_input}, {super().extra_repr()}"


class ParametricLIFNode(SpikingNode):
    """LIF neuron that learns its time constant: 1 / tau = sigmoid(w).

    Args:
        init_tau: time constant at the start, above 1.
        decay_input: whether the input decays with the membrane.
        v_threshold: see `SpikingNode`, as all that follow.
        v_reset: see `SpikingNode`.
        surrogate_function: see `SpikingNode`.
        detach_reset: see `SpikingNode`.
        step_mode: see `SpikingNode`.
        store_v_seq: see `SpikingNode`.
    """

    def __init__(
        self,
        init_tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
    ) -> None:
        if not init_tau > 1.0:
            raise ConfigError(f"init_tau is {init_tau}; expected a number above 1")
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq)
        self.decay_input = decay_input
        self.w = nn.Parameter(torch.as_tensor(-math.log(init_tau - 1.0)))

    def charge(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the leaky voltage after `x`."""
        r = 0.0 if self.v_reset is None else self.v_reset
        q = self.w.sigmoid()
        if self.decay_input:
            return v + (x - (v - r)) * q
        return v - (v - r) * q + x

    def extra_repr(self) -> str:
        """Return the arguments that differ between layers."""
        tau = 1.0 / float(self.w.detach().sigmoid())
        return f"tau={tau:.4g}, decay_input={self.decay_input}, {super().extra_repr()}"
