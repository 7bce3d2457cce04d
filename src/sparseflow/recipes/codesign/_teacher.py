"""A Gaussian process between measured layers: what a network is shown of the sizes that nobody measured."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Teacher", "Teachers"]

_SUBSET = 400
_FEWEST = 40
_JITTER = 1e-5
_SHORT = 0.05
"""Weight of Σ inverse lengths beside the likelihood: features that explain nothing fall silent."""


class Teacher:
    """Interpolates a figure over features, and tells its noise from its shape.

    y ~ GP(0, k), k(a, b) = s·m(‖(a − b)/ℓ‖) + Σ_f (v_f a_f)(v_f b_f) + σ²·[a = b]; m(r) = (1 + √5r + 5r²/3)·exp(−√5r)
    is the Matérn kernel of order 5/2 with a length for each feature, beside a plane. Lengths, s, v and σ maximise the
    likelihood of at most 400 of the points; all points make the mean.

    Args:
        features: `[n, F]`.
        wanted: `[n]`.
        groups: of each row; a group is left out as a whole. By default each row is one.
        steps: of Adam.
        seed: of the choice of points.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sections 2.2, 4.2 and 5.4.
    """

    def __init__(
        self, features: Tensor, wanted: Tensor, groups: Sequence[Any] = (), *, steps: int = 120, seed: int = 0
    ) -> None:
        x = features.double()
        deviation = x.std(0, correction=0)
        self._mean, self._used = x.mean(0), deviation > 1e-6
        self._deviation = deviation
        self._points = self._scaled(features)
        self._level, self._height = wanted.double().mean(), wanted.double().std().clamp(min=1e-6)
        y = (wanted.double() - self._level) / self._height
        width = self._points.shape[1]
        self._log = {
            "inverse": torch.full((width,), -1.0, dtype=torch.float64),
            "plane": torch.full((width,), -2.0, dtype=torch.float64),
            "height": torch.zeros((), dtype=torch.float64),
            "noise": torch.full((), -5.0, dtype=torch.float64),
        }
        chosen = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:_SUBSET]
        self._learn(self._points[chosen], y[chosen], steps)
        factor = self._factor(self._points)
        self._weights = torch.cholesky_solve(y[:, None], factor)[:, 0]
        self.left_out = self._left_out(torch.cholesky_inverse(factor), groups or range(len(y))) * self._height

    def __call__(self, features: Tensor) -> Tensor:
        """Return the mean `[m]` at features `[m, F]`."""
        with torch.no_grad():
            found = self._kernel(self._scaled(features), self._points) @ self._weights
        return found * self._height + self._level

    @property
    def noise(self) -> float:
        """Deviation of a measured point from the mean that is taken for noise, in the unit of what was wanted."""
        return float((self._log["noise"] / 2).exp() * self._height)

    def _scaled(self, features: Tensor) -> Tensor:
        return ((features.double() - self._mean) / self._deviation)[:, self._used]

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        inverse, plane = self._log["inverse"].exp(), self._log["plane"].exp()
        r = 5**0.5 * torch.cdist(a * inverse, b * inverse)
        matern: Tensor = self._log["height"].exp() * (1 + r + r * r / 3) * torch.exp(-r)
        return matern + (a * plane) @ (b * plane).T

    def _factor(self, points: Tensor) -> Tensor:
        noise = (self._log["noise"].exp() + _JITTER) * torch.eye(len(points), dtype=torch.float64)
        factor: Tensor = torch.linalg.cholesky(self._kernel(points, points) + noise)
        return factor

    def _left_out(self, inverse: Tensor, groups: Sequence[Any]) -> Tensor:
        """Return what a process without a point's whole group would be off by there: (K⁻¹)_GG⁻¹ α_G, equation 5.12."""
        places: dict[Any, list[int]] = {}
        for i, group in enumerate(groups):
            places.setdefault(group, []).append(i)
        found = torch.empty_like(self._weights)
        for own in places.values():
            found[own] = torch.linalg.solve(inverse[own][:, own], self._weights[own])
        return found

    def _learn(self, points: Tensor, y: Tensor, steps: int) -> None:
        settings = [value.requires_grad_() for value in self._log.values()]
        optimizer = torch.optim.Adam(settings, lr=0.1)
        for _ in range(steps):
            factor = self._factor(points)
            fit = 0.5 * y @ torch.cholesky_solve(y[:, None], factor)[:, 0] + factor.diagonal().log().sum()
            loss = fit + _SHORT * self._log["inverse"].exp().sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self._log = {name: value.detach() for name, value in self._log.items()}


class Teachers:
    """One process of all layers, and one of each kind of its own where that one is nearer to sizes it leaves out.

    Args:
        features: `[n, F]`.
        wanted: `[n]`.
        kinds: of each row.
        sizes: of each row, what is left out together; as by default each row.
        seed: of the choice of points.
    """

    def __init__(
        self, features: Tensor, wanted: Tensor, kinds: Sequence[str], sizes: Sequence[Any] = (), *, seed: int = 0
    ) -> None:
        groups = list(zip(kinds, sizes or range(len(kinds)), strict=True))
        self.common = Teacher(features, wanted, groups, seed=seed)
        self.own: dict[str, Teacher] = {}
        for kind in dict.fromkeys(kinds):
            rows = torch.tensor([k == kind for k in kinds])
            if int(rows.sum()) < _FEWEST:
                continue
            own = [g for g in groups if g[0] == kind]
            found = Teacher(features[rows], wanted[rows], own, seed=seed)
            if found.left_out.abs().mean() < self.common.left_out[rows].abs().mean():
                self.own[kind] = found

    def __call__(self, features: Tensor, kinds: Sequence[str]) -> Tensor:
        """Return the mean `[m]` at features `[m, F]` of layers of these kinds."""
        found = self.common(features)
        for kind, teacher in self.own.items():
            rows = torch.tensor([k == kind for k in kinds])
            if bool(rows.any()):
                found[rows] = teacher(features[rows])
        return found
