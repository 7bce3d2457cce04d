"""Where to start: dies drawn out by the slow modes of their traffic."""

import numpy as np
import numpy.typing as npt

__all__ = ["spectral_mm"]

Array = npt.NDArray[np.float64]

_MODES = 6


def spectral_mm(areas_mm2: Array, traffic_bytes: Array, rng: np.random.Generator, *, layouts: int) -> Array:
    """Return layouts in which dies that talk to each other lie close, `[layouts, S, 2]`; they may overlap.

    The two coordinates are mixtures of the slowest modes of the graph's
    normalised Laplacian, decorrelated, as wide as a disc of all dies' area,
    and turned. The first layout takes the two slowest modes, the others
    mixtures drawn with weights 1, 1/2, 1/3 …, and every one a little noise,
    which also parts dies that talk to none.

    Args:
        areas_mm2: `[S]`.
        traffic_bytes: `[S, S]`.
        rng: source of mixtures, turns and noise.
        layouts: how many.

    Source: Hall, An r-dimensional quadratic placement algorithm, Management
        Science 1970; normalised as in Shi & Malik, PAMI 2000.
    """
    dies = len(areas_mm2)
    radius = np.sqrt(areas_mm2.sum() / np.pi)
    both = traffic_bytes + traffic_bytes.T
    np.fill_diagonal(both, 0)
    # A little traffic between all keeps the graph in one piece.
    both = both + (1e-3 * both.mean() or 1.0)
    root = 1 / np.sqrt(both.sum(1))
    _, vectors = np.linalg.eigh(np.eye(dies) - root[:, None] * both * root)
    modes = (root[:, None] * vectors)[:, 1 : 1 + _MODES]
    modes = modes / np.maximum(np.linalg.norm(modes, axis=0), 1e-12)
    out = np.empty((layouts, dies, 2))
    for k in range(layouts):
        weights = rng.standard_normal((modes.shape[1], 2)) / np.arange(1, modes.shape[1] + 1)[:, None]
        if k == 0:
            weights = np.eye(modes.shape[1], 2)
        xy = modes @ weights + 0.1 * rng.standard_normal((dies, 2)) / np.sqrt(dies)
        left, _, _ = np.linalg.svd(xy - xy.mean(0), full_matrices=False)
        spread = np.zeros((dies, 2))
        spread[:, : left.shape[1]] = left * np.sqrt(dies) * radius / 2
        turn = rng.uniform(0, 2 * np.pi)
        out[k] = spread @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return out
