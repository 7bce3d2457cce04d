"""What the bench measures against: scans and the whole network in plain torch, and mambapy's parallel scan."""

import importlib
from collections.abc import Callable, Mapping
from importlib import metadata

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.nn.models.cmamba import ModelArgs
from sparseflow.ops.selective_scan import Operands

__all__ = ["VERSION", "Recur", "forecast", "gated_scan", "one_after_the_other", "parallel"]

VERSION = "1.2.0"
"""Version of mambapy that is asked for."""

Recur = Callable[[Tensor, Tensor], Tensor]
"""Takes decays and inputs `[B, K, E, N]` and returns all states h[k] = a[k] h[k-1] + u[k]."""


def parallel() -> Recur:
    """Return mambapy's parallel scan.

    Raises:
        UnsupportedError: mambapy is not installed in the version asked for; says how to install it.
    """
    mend = f"pip install mambapy=={VERSION}"
    try:
        found = metadata.version("mambapy")
        scan: Recur = importlib.import_module("mambapy.pscan").pscan
    except ImportError as e:
        raise UnsupportedError(f"the rival of the bench is not installed ({e}); {mend}") from e
    if found != VERSION:
        raise UnsupportedError(f"mambapy is {found}, the rival of the bench {VERSION}; {mend}")
    return scan


def one_after_the_other(a: Tensor, u: Tensor) -> Tensor:
    """Return all states, a step after the other."""
    h = u[:, 0]
    states = [h]
    for k in range(1, a.shape[1]):
        h = torch.addcmul(u[:, k], a[:, k], h)
        states.append(h)
    return torch.stack(states, 1)


def gated_scan(given: Operands, recur: Recur) -> Tensor:
    """Return y of a scan without a first state, in plain torch.

    Args:
        given: what the scan reads.
        recur: runs the recurrence.
    """
    dt = given.dt if given.dt_bias is None else given.dt + given.dt_bias
    delta = F.softplus(dt) if given.softplus else dt
    a = torch.exp(delta[..., None] * -torch.exp(given.A_log))
    u = (delta * given.x)[..., None] * given.B[:, :, None, :]
    y = (recur(a, u) @ given.C[..., None])[..., 0]
    if given.D is not None:
        y = y + given.D * given.x
    return y if given.z is None else y * F.silu(given.z)


def forecast(args: ModelArgs, weights: Mapping[str, Tensor], x: Tensor, recur: Recur) -> Tensor:
    """Return the forecast of the published network in plain torch, without dropout: `[B, V, L]` to `[B, V, F]`.

    Args:
        args: sizes of an "official" network.
        weights: its weights and buffers by their names.
        x: the past.
        recur: runs the recurrence of the scan.
    """
    batch, v, _ = x.shape
    mean = x.mean(-1, keepdim=True)
    std = torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
    x = F.pad((x - mean) / std, (0, args.padding), mode="replicate").unfold(-1, args.patch_len, args.stride)
    x = F.linear(x.reshape(batch * v, args.num_patches, -1), weights["patch_embedding.value_embedding.weight"])
    x = x + weights["patch_embedding.position_embedding.pe"]
    for i in range(args.n_layer):
        block = _Named(weights, f"encoder.layers.{i}.")
        y = _mix(args, block, F.rms_norm(x, (args.d_model,), block["norm.weight"], args.eps), recur)
        x = x + _gate(block, y.reshape(batch, v, args.num_patches, -1)).reshape(x.shape)
    x = F.silu(x).transpose(1, 2).reshape(batch, v, -1)
    return F.linear(x, weights["head.linear.weight"], weights["head.linear.bias"]) * std + mean


class _Named:
    """Weights under a prefix."""

    def __init__(self, weights: Mapping[str, Tensor], prefix: str) -> None:
        self.weights, self.prefix = weights, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[self.prefix + name]

    def get(self, name: str) -> Tensor | None:
        return self.weights.get(self.prefix + name)


def _mix(args: ModelArgs, w: _Named, u: Tensor, recur: Recur) -> Tensor:
    x, z = F.linear(u, w["mixer.in_proj.weight"], w.get("mixer.in_proj.bias")).chunk(2, -1)
    x = F.silu(x)
    n = args.d_state
    dt, b, c, d = torch.split(F.linear(x, w["mixer.x_proj.weight"]), [args.rank, n, n, args.d_inner], -1)
    dt = F.linear(dt, w["mixer.dt_proj.weight"], w["mixer.dt_proj.bias"])
    y = gated_scan(Operands(x=x, dt=dt, A_log=w["mixer.A_log"], B=b, C=c, D=d, z=z), recur)
    return F.linear(y, w["mixer.out_proj.weight"], w.get("mixer.out_proj.bias"))


def _gate(w: _Named, y: Tensor) -> Tensor:
    average, top = y.mean(-1).transpose(1, 2), y.amax(-1).transpose(1, 2)

    def mlp(name: str) -> Tensor:
        first, second = w[f"GDDMLP.{name}.0.weight"], w[f"GDDMLP.{name}.2.weight"]
        hidden = F.gelu(F.linear(average, first)) + F.gelu(F.linear(top, first))
        return torch.sigmoid(F.linear(hidden, second)).transpose(1, 2)[..., None]

    return torch.addcmul(mlp("fc_sf"), mlp("fc_sc"), y)
