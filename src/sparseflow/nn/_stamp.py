"""Notice that a parameter was changed, so that what was packed from it is packed anew."""

from torch import Tensor

__all__ = ["stamp"]


def stamp(*tensors: Tensor | None) -> tuple[int, ...]:
    """Return numbers that change when one of the tensors is replaced or written in place.

    Args:
        tensors: parameters and buffers; None counts as absent.

    >>> import torch
    >>> w = torch.zeros(2)
    >>> before = stamp(w)
    >>> w.add_(1.0)
    tensor([1., 1.])
    >>> stamp(w) == before
    False
    """
    try:
        return tuple([n for t in tensors if t is not None for n in (t.data_ptr(), t._version)])
    except RuntimeError:
        # Tensors made in inference mode count no versions; nor can they be written outside of it.
        return tuple([t.data_ptr() for t in tensors if t is not None])
