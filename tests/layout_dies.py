"""Random dies for the tests of layouts."""

import numpy as np

from sparseflow.hardware.layout import LayoutProblem


def random_problem(count: int, seed: int, *, flux_w_per_mm2: float = 0.4, **more) -> LayoutProblem:
    """Dies of 100 to 400 mm², a pipeline through all of them and as many other pairs that talk."""
    rng = np.random.default_rng(seed)
    area, aspect = rng.uniform(100, 400, count), rng.uniform(0.6, 1.6, count)
    traffic = np.zeros((count, count))
    order = rng.permutation(count)
    traffic[order[:-1], order[1:]] = rng.uniform(1e6, 1e7, count - 1)
    traffic[rng.integers(count, size=count), rng.integers(count, size=count)] += 5e6
    np.fill_diagonal(traffic, 0)
    return LayoutProblem(
        widths_mm=np.sqrt(area * aspect),
        heights_mm=np.sqrt(area / aspect),
        traffic_bytes=traffic,
        power_w=flux_w_per_mm2 * area,
        **more,
    )
