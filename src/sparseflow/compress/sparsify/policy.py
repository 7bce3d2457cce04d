"""Which kernel a layer gets: the faster one as measured, the block rule, or always the sparse one."""

from collections.abc import Mapping, Sequence

from sparseflow.errors import ConfigError

__all__ = ["POLICIES", "check_policy", "choose_kernel", "select_block_size"]

POLICIES = ("measured", "block", "always")


def check_policy(policy: str) -> str:
    """Return `policy`, or say which there are.

    Raises:
        ConfigError: unknown policy.
    """
    if policy not in POLICIES:
        raise ConfigError(f"policy is {policy!r}; expected one of {', '.join(POLICIES)}")
    return policy


def select_block_size(height: int, width: int) -> int | None:
    """Return the block size that the size of a feature map calls for, or None to leave the layer dense.

    min(H, W) ≥ 32 → 16, ≥ 16 → 8, ≥ 8 → 4, below → None.

    Args:
        height: rows of the input feature map.
        width: columns.

    >>> [select_block_size(n, 64) for n in (32, 31, 16, 8, 7)]
    [16, 8, 8, 4, None]
    """
    side = min(height, width)
    return next((block for least, block in ((32, 16), (16, 8), (8, 4)) if side >= least), None)


def choose_kernel(timings_s: Mapping[str, float], *, margin: float, among: Sequence[str] | None = None) -> str:
    """Return the fastest kernel, or "dense" if none beats dense by the margin.

    Kernel k is taken when t[k] · (1 + margin) ≤ t["dense"]; of those the one
    with the least time. Without a time for "dense" the fastest kernel wins.

    Args:
        timings_s: seconds by kernel name.
        margin: by which fraction a kernel must be faster, as 0.02.
        among: the kernels to choose from; None is all of them.

    >>> choose_kernel({"dense": 1.0, "event": 0.5, "amx": 0.4}, margin=0.02)
    'amx'
    >>> choose_kernel({"dense": 1.0, "event": 0.99}, margin=0.02)
    'dense'
    """
    dense = timings_s.get("dense", float("inf"))
    names = [k for k in timings_s if k != "dense" and (among is None or k in among)]
    best = min(names, key=lambda k: timings_s[k], default="dense")
    return best if best != "dense" and timings_s[best] * (1 + margin) <= dense else "dense"
