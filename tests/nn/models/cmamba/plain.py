"""Both variants written out from the published equations, a step and a state at a time, for any float type."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sparseflow.nn.models.cmamba import ModelArgs

Weights = Mapping[str, Tensor]


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0)


def rms_norm(x: Tensor, w: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) / x.shape[-1] + eps) * w


def position(k: int, i: int, d: int) -> float:
    angle = k * 10000 ** (-(i - i % 2) / d)
    return math.cos(angle) if i % 2 else math.sin(angle)


def positions(k: int, d: int, like: Tensor) -> Tensor:
    return torch.tensor([[position(row, i, d) for i in range(d)] for row in range(k)], dtype=like.dtype)


def scan(x: Tensor, delta: Tensor, a_log: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """h_t = exp(-Δ_t exp(A_log)) h_{t-1} + Δ_t x_t B_t; y_t = h_t · C_t."""
    h = torch.zeros(x.shape[0], x.shape[2], b.shape[2], dtype=x.dtype)
    out = []
    for t in range(x.shape[1]):
        decay = torch.exp(-delta[:, t, :, None] * torch.exp(a_log))
        h = decay * h + (delta[:, t] * x[:, t])[:, :, None] * b[:, t, None, :]
        out.append((h * c[:, t, None, :]).sum(-1))
    return torch.stack(out, 1)


def m_mamba(args: ModelArgs, w: Weights, name: str, u: Tensor) -> Tensor:
    e, n, r = args.d_inner, args.d_state, args.rank
    xz = u @ w[f"{name}.in_proj.weight"].T + w.get(f"{name}.in_proj.bias", 0)
    x, z = silu(xz[..., :e]), xz[..., e:]
    delta, b, c, d = (x @ w[f"{name}.x_proj.weight"].T).split([r, n, n, e], -1)
    delta = softplus(delta @ w[f"{name}.dt_proj.weight"].T + w[f"{name}.dt_proj.bias"])
    y = scan(x, delta, w[f"{name}.A_log"], b, c) + d * x
    return (y * silu(z)) @ w[f"{name}.out_proj.weight"].T + w.get(f"{name}.out_proj.bias", 0)


def gdd_mlp(args: ModelArgs, w: Weights, name: str, y: Tensor) -> Tensor:
    v = args.num_channels
    series = y.reshape(-1, v, *y.shape[1:])

    def mlp(which: str, pooled: Tensor) -> Tensor:
        hidden = gelu(torch.einsum("hv,bvk->bhk", w[f"{name}.{which}.0.weight"], pooled))
        return torch.einsum("vh,bhk->bvk", w[f"{name}.{which}.2.weight"], hidden)

    avg, top = series.mean(-1), series.max(-1).values
    scale, shift = (mlp(which, avg) + mlp(which, top) for which in ("fc_sc", "fc_sf"))
    out = torch.sigmoid(scale)[..., None] * series + torch.sigmoid(shift)[..., None]
    return out.reshape(y.shape)


def official(args: ModelArgs, w: Weights, x: Tensor) -> Tensor:
    batch, v, _ = x.shape
    p, s, k = args.patch_len, args.stride, args.num_patches
    mean = x.mean(-1, keepdim=True)
    std = torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5)
    x = (x - mean) / std
    x = torch.cat([x] + [x[..., -1:]] * s, -1)
    x = torch.stack([x[..., i * s : i * s + p] for i in range(k)], 2).reshape(batch * v, k, p)
    x = x @ w["patch_embedding.value_embedding.weight"].T + positions(k, args.d_model, x)
    for i in range(args.n_layer):
        name = f"encoder.layers.{i}"
        y = m_mamba(args, w, f"{name}.mixer", rms_norm(x, w[f"{name}.norm.weight"], 1e-5))
        x = x + gdd_mlp(args, w, f"{name}.GDDMLP", y)
    x = silu(x).permute(0, 2, 1).reshape(batch, v, -1)
    return (x @ w["head.linear.weight"].T + w["head.linear.bias"]) * std + mean


def mamba(args: ModelArgs, w: Weights, name: str, u: Tensor) -> Tensor:
    e, n, r = args.d_inner, args.d_state, args.rank
    xz = u @ w[f"{name}.in_proj.weight"].T + w.get(f"{name}.in_proj.bias", 0)
    x, z = xz[..., :e], xz[..., e:]
    past = torch.cat([torch.zeros(x.shape[0], args.d_conv - 1, e, dtype=x.dtype), x], 1)
    taps = w[f"{name}.conv1d.weight"][:, 0]
    x = sum(taps[:, j] * past[:, j : j + x.shape[1]] for j in range(args.d_conv))
    x = silu(x + w.get(f"{name}.conv1d.bias", 0))
    delta, b, c = (x @ w[f"{name}.x_proj.weight"].T).split([r, n, n], -1)
    delta = softplus(delta @ w[f"{name}.dt_proj.weight"].T + w[f"{name}.dt_proj.bias"])
    y = scan(x, delta, w[f"{name}.A_log"], b, c) + w[f"{name}.D"] * x
    return (y * silu(z)) @ w[f"{name}.out_proj.weight"].T + w.get(f"{name}.out_proj.bias", 0)


def seed(args: ModelArgs, w: Weights, x: Tensor) -> Tensor:
    batch, v, _ = x.shape
    p, s, k = args.patch_len, args.stride, args.num_patches
    x = torch.stack([x[..., i * s : i * s + p].reshape(batch, v * p) for i in range(k)], 1)
    x = x @ w["patch_embedding.weight"].T + w["patch_embedding.bias"] + positions(k, args.d_model, x)
    for i in range(args.n_layer):
        x = x + mamba(args, w, f"blocks.{i}.mixer", rms_norm(x, w[f"blocks.{i}.norm.weight"], 1e-6))
    x = rms_norm(x, w["norm_f.weight"], 1e-6).reshape(batch, -1)
    return (x @ w["output_layer.weight"].T + w["output_layer.bias"]).reshape(batch, v, args.forecast_len)


def forward(args: ModelArgs, w: Weights, x: Tensor) -> Tensor:
    return (official if args.variant == "official" else seed)(args, w, x)
