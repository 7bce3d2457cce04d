"""The parts of a VideoViT: patches, attention over all tokens of a clip, MLP, block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.nn.models.video_vit.args import VideoViTArgs

__all__ = ["Attention", "Block", "DropPath", "Mlp", "PatchEmbed"]


class PatchEmbed(nn.Module):
    """Cut a clip into patches and embed each: `[B, T, c, H, W]` → `[B, T', N, C]`, n = i·W_p + j.

    A convolution whose stride is its kernel, as one matrix product.

    Args:
        args: sizes of the network.
    """

    def __init__(self, args: VideoViTArgs) -> None:
        super().__init__()
        self.args = args
        kernel = (args.tubelet_size, args.patch_size, args.patch_size)
        # Only the parameters of a convolution, under the names of published weights.
        self.proj = nn.Conv3d(args.in_chans, args.embed_dim, kernel, kernel)

    def forward(self, clip: Tensor) -> Tensor:
        """Return the tokens of `clip`."""
        a, (rows, columns) = self.args, self.args.grid
        batch, p = clip.shape[0], a.patch_size
        x = clip.reshape(batch, a.times, a.tubelet_size, a.in_chans, rows, p, columns, p)
        x = x.permute(0, 1, 4, 6, 3, 2, 5, 7).reshape(batch, a.times, a.num_patches, -1)
        return F.linear(x, self.proj.weight.flatten(1), self.proj.bias)


class DropPath(nn.Module):
    """Drop whole samples in training: y = x·m / (1 − share), m ~ Bernoulli(1 − share) for each sample.

    Args:
        share: share of samples that are dropped, below 1.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with samples (dimension 0) dropped."""
        if not self.training or self.share == 0:
            return x
        kept = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device).bernoulli_(1 - self.share)
        return x * kept / (1 - self.share)


class Attention(nn.Module):
    """Multi-head attention of every token to every token of the clip.

    Args:
        args: sizes of the network.
        heads: heads of this block; each is `args.head_dim` wide.
    """

    def __init__(self, args: VideoViTArgs, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.attn_drop = heads, args.head_dim, args.attn_drop
        inner = heads * args.head_dim
        self.qkv = nn.Linear(args.embed_dim, 3 * inner)
        self.proj = nn.Linear(inner, args.embed_dim)
        self.drop = nn.Dropout(args.drop_rate)

    def forward(
        self, x: Tensor, bias: Tensor | None = None, gate: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the output `[B, L, C]`, and the queries and keys `[B, heads, L, head_dim]`.

        Args:
            x: `[B, L, C]`.
            bias: `[B, L]` added to the logits of each key: −∞ hides a token, log m weighs it by m.
            gate: `[heads]` factors of the heads' outputs.
        """
        batch, length, _ = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mask = None if bias is None else bias.to(q.dtype)[:, None, None, :].expand(batch, 1, length, length)
        out = F.scaled_dot_product_attention(q, k, v, mask, self.attn_drop if self.training else 0.0)
        if gate is not None:
            out = out * gate.to(out.dtype).view(1, -1, 1, 1)
        out = out.transpose(1, 2).reshape(batch, length, -1)
        return self.drop(self.proj(out)), (q, k)


class Mlp(nn.Module):
    """Linear, GELU, linear: C → hidden → C.

    Args:
        args: sizes of the network.
        hidden: hidden width of this block.
    """

    def __init__(self, args: VideoViTArgs, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(args.embed_dim, hidden)
        self.fc2 = nn.Linear(hidden, args.embed_dim)
        self.drop = nn.Dropout(args.drop_rate)

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """Return `[…, C]`; `gate` `[hidden]` are factors of the hidden channels."""
        x = self.drop(F.gelu(self.fc1(x)))
        if gate is not None:
            x = x * gate.to(x.dtype)
        out: Tensor = self.drop(self.fc2(x))
        return out


class Block(nn.Module):
    """One block: x + w·attention(norm(x)), then x + w·mlp(norm(x)); w is 1 without a gate.

    Args:
        args: sizes of the network.
        heads: heads of this block; 0 leaves the attention out.
        hidden: hidden width of this block; 0 leaves the MLP out.
        drop_path: share of samples that skip each half in training.
    """

    def __init__(self, args: VideoViTArgs, heads: int, hidden: int, drop_path: float = 0.0) -> None:
        super().__init__()
        if heads:
            self.norm1 = nn.LayerNorm(args.embed_dim, args.norm_eps)
            self.attn = Attention(args, heads)
        if hidden:
            self.norm2 = nn.LayerNorm(args.embed_dim, args.norm_eps)
            self.mlp = Mlp(args, hidden)
        self.heads, self.hidden = heads, hidden
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        *,
        head: Tensor | None = None,
        channel: Tensor | None = None,
        block: Tensor | None = None,
        look: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Return the tokens `[B, L, C]`, and with `look` the queries and keys of the attention.

        Args:
            x: `[B, L, C]`.
            bias: `[B, L]` added to the logits of each key.
            head: `[heads]` factors of the heads' outputs.
            channel: `[hidden]` factors of the hidden channels.
            block: factor of both halves.
            look: whether queries and keys are wanted; they hold memory.
        """
        seen = None
        if self.heads:
            out, seen = self.attn(self.norm1(x), bias, head)
            x = x + self.drop_path(_scaled(out, block))
        if self.hidden:
            x = x + self.drop_path(_scaled(self.mlp(self.norm2(x), channel), block))
        return x, seen if look else None


def _scaled(x: Tensor, factor: Tensor | None) -> Tensor:
    return x if factor is None else x * factor.to(x.dtype)
