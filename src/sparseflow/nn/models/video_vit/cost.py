"""What a block of a VideoViT costs; numbers serve a table, tensors carry gradients to shares that are learned."""

from typing import Any

from sparseflow.nn.models.video_vit.args import VideoViTArgs

__all__ = ["block_bytes", "block_flops", "embed_flops"]


def block_flops(
    args: VideoViTArgs, block: int, tokens: Any, *, head: Any = 1.0, channel: Any = 1.0, keep: Any = 1.0
) -> Any:
    """Return the operations of one block for one clip, a multiply-add counted as two.

    With E = heads·head_dim, H the hidden width, L tokens and the shares kept of heads, channels and the block itself:
    keep·(head·(8·L·C·E + 4·L²·E) + channel·4·L·C·H); norms and activations are left out.

    Args:
        args: sizes of the network.
        block: which block.
        tokens: tokens L that enter it.
        head: share of its heads that is kept.
        channel: share of its hidden channels that is kept.
        keep: share of the block itself.

    >>> block_flops(VideoViTArgs(), 0, 1568) / 1e9
    29.749149696
    """
    c, e, hidden = args.embed_dim, args.heads[block] * args.head_dim, args.hidden[block]
    attention = 8.0 * tokens * c * e + 4.0 * tokens * tokens * e
    return keep * (head * attention + channel * 4.0 * tokens * c * hidden)


def block_bytes(
    args: VideoViTArgs, block: int, tokens: Any, *, head: Any = 1.0, channel: Any = 1.0, element_bytes: int = 2
) -> Any:
    """Return the bytes that one block moves for one clip: its weights, and each of its tensors written and read once.

    Args:
        args: sizes of the network.
        block: which block.
        tokens: tokens L that enter it.
        head: share of its heads that is kept.
        channel: share of its hidden channels that is kept.
        element_bytes: bytes of a number; 2 in half precision.
    """
    c, e, hidden = args.embed_dim, args.heads[block] * args.head_dim, args.hidden[block]
    weights = head * 4.0 * c * e + channel * 2.0 * c * hidden
    tensors = tokens * (6.0 * c + head * 8.0 * e + channel * 4.0 * hidden)
    return element_bytes * (weights + tensors)


def embed_flops(args: VideoViTArgs) -> float:
    """Return the operations of the patch embedding for one clip, a multiply-add counted as two.

    >>> embed_flops(VideoViTArgs()) / 1e9
    1.849688064
    """
    pixels = args.in_chans * args.tubelet_size * args.patch_size**2
    return 2.0 * args.tokens * pixels * args.embed_dim
