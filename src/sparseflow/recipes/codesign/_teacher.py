"""A Gaussian process between measured layers: what a network is shown of the sizes that nobody measured."""

import torch
from torch import Tensor

__all__ = ["Teacher"]

_SUBSET = 400
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
        steps: of Adam.
        seed: of the choice of points.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sections 2.2, 4.2 and 5.4.
    """

    def __init__(self, features: Tensor, wanted: Tensor, *, steps: int = 120, seed: int = 0) -> None:
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
        self._weights = self._solved(self._points, y)[0]

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

    def _solved(self, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (K + σ²)⁻¹ y, and the negative log likelihood but for a constant."""
        noise = (self._log["noise"].exp() + _JITTER) * torch.eye(len(y), dtype=torch.float64)
        factor = torch.linalg.cholesky(self._kernel(points, points) + noise)
        weights = torch.cholesky_solve(y[:, None], factor)[:, 0]
        return weights.detach(), 0.5 * (y @ weights) + factor.diagonal().log().sum()

    def _learn(self, points: Tensor, y: Tensor, steps: int) -> None:
        settings = [value.requires_grad_() for value in self._log.values()]
        optimizer = torch.optim.Adam(settings, lr=0.1)
        for _ in range(steps):
            loss = self._solved(points, y)[1] + _SHORT * self._log["inverse"].exp().sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self._log = {name: value.detach() for name, value in self._log.items()}
