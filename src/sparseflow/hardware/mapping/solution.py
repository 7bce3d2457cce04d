"""What every solver of mappings hands back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseflow.hardware.mapping.objective import MappingCost

__all__ = ["NO_MAPPING", "Solution"]

NO_MAPPING = "no mapping keeps the slots' memory limits; give larger limits, smaller segments or more slots"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """A mapping, its cost, and how good it can be said to be.

    Args:
        mapping: `[K]` slot of each segment.
        cost: of `evaluate`.
        bound: certified: no mapping (of the kind that the solver looks among) has a lower J; -inf where none is known.
        optimal: whether no such mapping is better, up to the solver's rounding.
    """

    mapping: NDArray[np.int64]
    cost: MappingCost
    bound: float = float("-inf")
    optimal: bool = False
