"""The blocks of both variants over the primitives, under the names of the published weights."""

import math

import torch
from torch import Tensor, nn

from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.primitives import Primitives

__all__ = ["GDDMLP", "CMambaBlock", "Embedding", "Encoder", "Head", "MMamba", "Mamba", "MambaBlock"]

_FIRST_STEPS = (1e-3, 0.1)
_LEAST_STEP = 1e-4


class MMamba(nn.Module):
    """The paper's scan: no convolution, one A for all channels, a skip D that follows the data.

    [x, z] = W_in u; x ← SiLU(x); [δ, B, C, D] = W_x x; Δ = softplus(W_dt δ + b); a = exp(−Δ·exp(A_log));
    h ← a⊙h + Δ x B; y = h·C + D⊙x; out = W_out (y⊙SiLU(z)).

    Args:
        args: sizes.
        primitives: number system.

    Source: arXiv 2406.05316, section 4.2.
    """

    def __init__(self, args: ModelArgs, primitives: Primitives) -> None:
        super().__init__()
        d, e, n, r = args.d_model, args.d_inner, args.d_state, args.rank
        self.parts = _bounds(r, n, n, e)
        self.in_proj = primitives.linear(d, 2 * e, bias=args.bias)
        self.act = primitives.silu()
        self.x_proj = primitives.linear(e, r + 2 * n + e, bias=False)
        self.dt_proj = primitives.linear(r, e, bias=True)
        self.A_log = nn.Parameter(first_a_log(1, n))
        self.scan = primitives.scan()
        self.out_proj = primitives.linear(e, d, bias=args.bias)
        first_steps_(self.dt_proj, r)

    def forward(self, u: Tensor) -> Tensor:
        """Return the mixed tokens `[B·V, K, D]`."""
        xz = self.in_proj(u)
        e = xz.shape[-1] // 2
        x = self.act(xz[..., :e])
        dbcd = self.x_proj(x)
        delta, b, c, d = (dbcd[..., low:high] for low, high in self.parts)
        y = self.scan(x, self.dt_proj(delta), self.A_log, b, c, d, xz[..., e:])
        out: Tensor = self.out_proj(y)
        return out


class GDDMLP(nn.Module):
    """Scale and shift every series by what all series hold, patch by patch.

    From mean and maximum of y over D: scale and shift, each Σ over the two of W₂ GELU(W₁ ·) along the series
    (V → ⌊V/r⌋ → V, without bias); out = σ(scale)⊙y + σ(shift).

    Args:
        args: sizes.
        primitives: number system.

    Source: arXiv 2406.05316, section 4.3.
    """

    def __init__(self, args: ModelArgs, primitives: Primitives) -> None:
        super().__init__()
        self.num_channels = args.num_channels
        self.pool = primitives.pool()
        self.fc_sc = _mlp(args, primitives)
        self.fc_sf = _mlp(args, primitives)
        self.add_scale = primitives.add_pools()
        self.add_shift = primitives.add_pools()
        self.gate = primitives.gate()

    def forward(self, y: Tensor) -> Tensor:
        """Return the gated tokens `[B·V, K, D]`."""
        series, k, _ = y.shape
        v = self.num_channels
        pooled = self.pool(y).reshape(2, series // v, v, k).swapaxes(2, 3)
        scale = self.add_scale(self.fc_sc(pooled)).swapaxes(1, 2).reshape(series, k, 1)
        shift = self.add_shift(self.fc_sf(pooled)).swapaxes(1, 2).reshape(series, k, 1)
        out: Tensor = self.gate(y, scale, shift)
        return out


class CMambaBlock(nn.Module):
    """x + dropout(GDD(M-Mamba(RMSNorm(x)))): `[B·V, K, D]`, the residual added once, here.

    Args:
        args: sizes.
        primitives: number system.
    """

    def __init__(self, args: ModelArgs, primitives: Primitives) -> None:
        super().__init__()
        self.mixer = MMamba(args, primitives)
        self.norm = primitives.rms_norm(args.d_model, args.eps)
        self.GDDMLP = GDDMLP(args, primitives)
        self.dropout = primitives.dropout(args.dropout)
        self.residual = primitives.residual()

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the block."""
        out: Tensor = self.residual(x, self.dropout(self.GDDMLP(self.mixer(self.norm(x)))))
        return out


class Embedding(nn.Module):
    """Patches to tokens with positions: `[B·V, K, P]` → `[B·V, K, D]`, without bias.

    Args:
        args: sizes.
        primitives: number system.
    """

    def __init__(self, args: ModelArgs, primitives: Primitives) -> None:
        super().__init__()
        self.value_embedding = primitives.linear(args.patch_len, args.d_model, bias=False)
        self.position_embedding = primitives.position(args.num_patches, args.d_model)
        self.dropout = primitives.dropout(args.head_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens."""
        out: Tensor = self.dropout(self.position_embedding(self.value_embedding(x)))
        return out


class Encoder(nn.Module):
    """Blocks one behind the other, and a SiLU after the last: `[B·V, K, D]`.

    Args:
        args: sizes.
        primitives: number system.
    """

    def __init__(self, args: ModelArgs, primitives: Primitives) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CMambaBlock(args, primitives) for _ in range(args.n_layer))
        self.act = primitives.silu()

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the blocks."""
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.act(x)
        return out


class Head(nn.Module):
    """All tokens of a series to its forecast, alike for all series: `[B, V, D·K]` → `[B, V, F]`.

    Args:
        args: sizes.
        primitives: number system.
    """

    def __init__(self, args: ModelArgs, primitives: Primitives) -> None:
        super().__init__()
        self.linear = primitives.linear(args.d_model * args.num_patches, args.forecast_len, bias=True)
        self.dropout = primitives.dropout(args.forecast_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the forecast of standardised series."""
        out: Tensor = self.dropout(self.linear(x))
        return out


class Mamba(nn.Module):
    """Mamba's own layer: causal convolution, A for each channel and state, D for each channel.

    [x, z] = W_in u; x ← SiLU(conv x); [δ, B, C] = W_x x; then as `MMamba`, with A_log `[E, N]` and a learnt D `[E]`.

    Args:
        args: sizes.
        primitives: number system.

    Source: Gu and Dao, arXiv 2312.00752, algorithm 2.
    """

    def __init__(self, args: ModelArgs, primitives: Primitives) -> None:
        super().__init__()
        d, e, n, r = args.d_model, args.d_inner, args.d_state, args.rank
        self.parts = _bounds(r, n, n)
        self.in_proj = primitives.linear(d, 2 * e, bias=args.bias)
        self.conv1d = primitives.conv(e, args.d_conv, bias=args.conv_bias)
        self.act = primitives.silu()
        self.x_proj = primitives.linear(e, r + 2 * n, bias=False)
        self.dt_proj = primitives.linear(r, e, bias=True)
        self.A_log = nn.Parameter(first_a_log(e, n))
        self.D = nn.Parameter(torch.ones(e))
        self.scan = primitives.scan()
        self.out_proj = primitives.linear(e, d, bias=args.bias)
        first_steps_(self.dt_proj, r)

    def forward(self, u: Tensor) -> Tensor:
        """Return the mixed tokens `[B, K, D]`."""
        xz = self.in_proj(u)
        e = xz.shape[-1] // 2
        x = self.act(self.conv1d(xz[..., :e]))
        dbc = self.x_proj(x)
        delta, b, c = (dbc[..., low:high] for low, high in self.parts)
        y = self.scan(x, self.dt_proj(delta), self.A_log, b, c, self.D, xz[..., e:])
        out: Tensor = self.out_proj(y)
        return out


class MambaBlock(nn.Module):
    """x + dropout(Mamba(RMSNorm(x))): `[B, K, D]`, the residual added once, here.

    Args:
        args: sizes.
        primitives: number system.
    """

    def __init__(self, args: ModelArgs, primitives: Primitives) -> None:
        super().__init__()
        self.mixer = Mamba(args, primitives)
        self.norm = primitives.rms_norm(args.d_model, args.eps)
        self.dropout = primitives.dropout(args.dropout)
        self.residual = primitives.residual()

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the block."""
        out: Tensor = self.residual(x, self.dropout(self.mixer(self.norm(x))))
        return out


def first_a_log(rows: int, states: int) -> Tensor:
    """Return the first A_log `[rows, N]`: ln 1 … ln N in each row, so A = −1 … −N.

    >>> first_a_log(1, 3)
    tensor([[0.0000, 0.6931, 1.0986]])
    """
    return torch.arange(1, states + 1, dtype=torch.float32).log().repeat(rows, 1)


@torch.no_grad()
def first_steps_(dt_proj: nn.Module, rank: int) -> None:
    """Draw the first step sizes, in place: weights uniform in ±R^(−1/2), Δ at rest log-uniform in [0.001, 0.1].

    Args:
        dt_proj: linear layer R → E with a bias b, where softplus(b) = Δ at rest.
        rank: R.
    """
    weight, bias = dt_proj.get_parameter("weight"), dt_proj.get_parameter("bias")
    bound = rank**-0.5
    weight.uniform_(-bound, bound)
    low, high = (math.log(step) for step in _FIRST_STEPS)
    steps = torch.empty_like(bias).uniform_(low, high).exp().clamp(min=_LEAST_STEP)
    bias.copy_(steps + torch.log(-torch.expm1(-steps)))


def _mlp(args: ModelArgs, primitives: Primitives) -> nn.Sequential:
    v, hidden = args.num_channels, args.num_channels // args.reduction_ratio
    return nn.Sequential(
        primitives.linear(v, hidden, bias=False), primitives.gelu(), primitives.linear(hidden, v, bias=False)
    )


def _bounds(*sizes: int) -> tuple[tuple[int, int], ...]:
    """Return where parts of these sizes begin and end, one behind the other."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple((end - size, end) for end, size in zip(ends, sizes, strict=True))
