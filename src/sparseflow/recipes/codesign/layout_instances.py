"""Random problems of layout: dies of real sizes and powers that talk as pipelines do."""

import numpy as np

from sparseflow.hardware.layout import LayoutProblem

__all__ = ["random_dies"]


def random_dies(
    seed: int,
    *,
    dies: int | None = None,
    largest_mm2: float = 600.0,
    flux_w_per_mm2: float | None = None,
    in_order: bool = False,
    radius_mm: float = 147.0,
) -> LayoutProblem:
    """Return one random problem.

    Dies have 100 mm² to `largest_mm2` and aspects of .5 to 2. One to ten
    megabytes go along a pipeline through all of them, and up to five between
    as many further pairs.

    Args:
        seed: of everything.
        dies: default 4 to 16.
        largest_mm2: see above.
        flux_w_per_mm2: power over area; default .2 to .8, each die its own.
        in_order: let the pipeline follow the dies' numbers, which a grid in
            rows suits; else it visits them in an order drawn at random, as
            mappings do.
        radius_mm: of the wafer, less its margin.
    """
    r = np.random.default_rng(seed)
    count = int(r.integers(4, 17)) if dies is None else dies
    area, aspect = r.uniform(100, largest_mm2, count), np.exp(r.uniform(-np.log(2), np.log(2), count))
    traffic = np.zeros((count, count))
    order = np.arange(count) if in_order else r.permutation(count)
    traffic[order[:-1], order[1:]] = r.uniform(1e6, 1e7, count - 1)
    np.add.at(traffic, (r.integers(count, size=count), r.integers(count, size=count)), r.uniform(0, 5e6, count))
    np.fill_diagonal(traffic, 0)
    flux = r.uniform(0.2, 0.8, count) if flux_w_per_mm2 is None else np.full(count, flux_w_per_mm2)
    return LayoutProblem(
        widths_mm=np.sqrt(area * aspect),
        heights_mm=np.sqrt(area / aspect),
        traffic_bytes=traffic,
        power_w=flux * area,
        radius_mm=radius_mm,
    )
