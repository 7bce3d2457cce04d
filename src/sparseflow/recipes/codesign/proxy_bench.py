"""`sparseflow codesign bench --suite proxy`: proxies on layers that they never saw, and on whole networks."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy import FIGURES, LayerHwProxy, LayerSpec, proxy_names, tabulate
from sparseflow.hardware.proxy.model import bound_of
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.codesign._train import SHARES
from sparseflow.recipes.codesign.fit import split
from sparseflow.recipes.codesign.measurements import Measured, Network, read

__all__ = ["LAYERS", "bench", "errors", "gradient_signs", "lightgbm_errors"]

LAYERS = {"h200": 1500, "cpu": 400}
"""Layers that a proxy of each device is asked to rest on."""
_DATA = "benchmarks/results/codesign_layers_{}.jsonl"
_BOUNDS = {"lat_ms": 0.10, "mem_mb": 0.05, "power_w": 0.10}
_WITHIN, _RANK, _SIGNS, _NETWORK = 0.80, 0.98, 0.99, 0.10
_PROBES, _QUICK_PROBES = 600, 60
_TREES = 600
_WORDS = {"lat_ms": "latency", "mem_mb": "memory", "power_w": "power"}


def bench(
    *, quick: bool = False, say: Callable[[str], None] = lambda _: None, devices: Sequence[str] = (),
    data: str = _DATA,
) -> dict[str, Any]:  # fmt: skip
    """Hold every proxy that ships against the layers it was measured with but not trained on.

    Args:
        quick: fewer probes of gradients, and no LightGBM.
        say: is told each row as it comes.
        devices: names of proxies; empty for all of `LAYERS`.
        data: path of the measured layers of a device, with `{}` for its name.

    Returns:
        `{"checks": [...], "ok": ..., "rows": [...], "networks": [...]}`; a row is of one device, method and figure.

    Raises:
        ConfigError: a device without a proxy.
        DataError: there are no measured layers at `data`.
    """
    checks: list[Check] = []
    rows: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for device in devices or tuple(LAYERS):
        if device not in LAYERS:
            raise ConfigError(f"{device!r} has no proxy to judge; there are {', '.join(LAYERS)}")
        proxy = LayerHwProxy.load(device)
        _, layers, whole = read([Path(data.format(device))])
        trained, _, test = split(layers)
        checks.append(_check(f"{device}: layers measured", len(layers), "layers", ">=", LAYERS[device]))
        own = _rows(device, proxy, trained, test, quick)
        for row in own:
            figures = f"mean error {row['mape']:.3f}, within 10 %: {row['within_10']:.2f}"
            say(f"{device} {row['method']} {row['figure']}: {figures}")
        rows += own
        checks += _layer_checks(device, own)
        checks.append(_sign_check(device, proxy, test, _QUICK_PROBES if quick else _PROBES))
        for network in whole:
            found = _network(device, proxy, network)
            networks.append(found)
            name = f"{device}: {network.name}, off in latency"
            checks.append(_check(name, abs(found["error"]), "share", "<=", _NETWORK))
    return checks_body(checks, bench="codesign proxy", rows=rows, networks=networks, proxies=list(proxy_names()))


def _check(name: str, value: float, unit: str, rule: str, bound: float) -> Check:
    return Check(show="1", name=name, value=float(value), unit=unit, rule=rule, bound=bound)


def errors(predicted: NDArray[Any], measured: NDArray[Any]) -> dict[str, float]:
    """Return `mape`, the share of layers `within_10` per cent, and the rank correlation `spearman`.

    >>> errors(np.array([1.0, 2.2, 2.9]), np.array([1.0, 2.0, 3.0]))["within_10"]
    1.0
    """
    off = np.abs(predicted / measured - 1)
    # A constant has no order.
    rank = float(spearmanr(predicted, measured).statistic) if np.ptp(predicted) > 0 else 0.0
    # A prediction of one tenth more may lie at .1000001 in floating point.
    return {"mape": float(off.mean()), "within_10": float((off <= 0.1 + 1e-9).mean()), "spearman": rank}


def _rows(
    device: str, proxy: LayerHwProxy, trained: list[Measured], test: list[Measured], quick: bool
) -> list[dict[str, Any]]:
    rows = []
    for figure in FIGURES:
        seen, asked = ([m for m in part if getattr(m, figure) is not None] for part in (trained, test))
        specs = [m.layer for m in asked]
        wanted = np.array([getattr(m, figure) for m in asked])
        found = proxy.predict_layers_batch(specs)[figure].numpy()
        spread = proxy.spreads(specs)[figure].numpy()
        inside = float(((wanted >= found / spread) & (wanted <= found * spread)).mean())
        common = {"device": device, "figure": figure, "layers": len(asked), "trained_on": len(seen)}
        rows.append({**common, "method": "proxy", **errors(found, wanted), "inside_spread": inside})
        bound, base = (_roofline(proxy, [m.layer for m in part], figure) for part in (asked, seen))
        level = float(np.median(np.array([getattr(m, figure) for m in seen]) / base))
        rows.append({**common, "method": "roofline", **errors(bound, wanted)})
        rows.append({**common, "method": "roofline, one factor fitted", **errors(level * bound, wanted)})
        if not quick:
            rows.append({**common, "method": "lightgbm", **lightgbm_errors(proxy, seen, asked, figure)})
    return rows


def _roofline(proxy: LayerHwProxy, layers: Sequence[LayerSpec], figure: str) -> NDArray[Any]:
    bound = bound_of(figure, tabulate(layers, proxy.target)).numpy()
    return bound * proxy.tdp_w if figure == "power_w" else bound


def lightgbm_errors(
    proxy: LayerHwProxy, seen: Sequence[Measured], asked: Sequence[Measured], figure: str
) -> dict[str, float]:
    """Return the errors of gradient-boosted trees on the same features, trained on the same layers.

    Raises:
        ConfigError: LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError as e:
        raise ConfigError(
            "the rival needs LightGBM; pip install 'sparseflow[codesign]', or ask for a quick bench"
        ) from e
    xs = [tabulate([m.layer for m in part], proxy.target).features.numpy() for part in (seen, asked)]
    logs = [np.log([getattr(m, figure) for m in part]) for part in (seen, asked)]
    bases = [np.log(_roofline(proxy, [m.layer for m in part], figure)) for part in (seen, asked)]
    # As the proxy does, the trees learn what is left beside the bound; with the bare logarithm they are far worse.
    settings = {
        "objective": "regression", "learning_rate": 0.03, "num_leaves": 31, "min_data_in_leaf": 5,
        "bagging_fraction": 0.8, "bagging_freq": 1, "seed": 0, "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    trees = lightgbm.train(settings, lightgbm.Dataset(xs[0], logs[0] - bases[0]), num_boost_round=_TREES)
    return errors(np.exp(np.asarray(trees.predict(xs[1])) + bases[1]), np.exp(logs[1]))


def _layer_checks(device: str, rows: Sequence[dict[str, Any]]) -> list[Check]:
    found = []
    for row in rows:
        if row["method"] != "proxy":
            continue
        what, figure = f"{device}: {_WORDS[row['figure']]} of unseen layers", row["figure"]
        found.append(_check(f"{what}, mean error", row["mape"], "share", "<=", _BOUNDS[figure]))
        if figure == "lat_ms":
            found.append(_check(f"{what}, within 10 %", row["within_10"], "share", ">=", _WITHIN))
            found.append(_check(f"{what}, rank correlation", row["spearman"], "", ">=", _RANK))
    return found


def gradient_signs(proxy: LayerHwProxy, layers: Sequence[LayerSpec], count: int, seed: int = 0) -> float:
    """Return the share of probes in which latency and memory rise with what is kept, by their gradients.

    Args:
        proxy: to be probed.
        layers: unseen layers, whose sizes are taken.
        count: probes; each is one share, drawn from .2 to 1, of one layer.
        seed: of the draw.
    """
    rng = random.Random(seed)
    fit = [s for s in layers if s.kind in SHARES]
    drawn, keeps = [], []
    for _ in range(count):
        layer = rng.choice(fit)
        share = rng.choice((*SHARES[layer.kind], "keep_block"))
        keep = torch.tensor(rng.uniform(0.2, 1.0), dtype=torch.float64, requires_grad=True)
        learned: dict[str, Any] = {share: keep}
        drawn.append(replace(layer, **learned))
        keeps.append(keep)
    found = proxy.predict_layers_batch(drawn)
    right = 0
    for figure in ("lat_ms", "mem_mb"):
        slopes = torch.autograd.grad(found[figure].sum(), keeps, retain_graph=True)
        right += sum(bool(slope > 0) for slope in slopes)
    return right / (2 * count)


def _sign_check(device: str, proxy: LayerHwProxy, test: Sequence[Measured], count: int) -> Check:
    signs = gradient_signs(proxy, [m.layer for m in test], count)
    return _check(f"{device}: gradients to shares of the right sign", signs, "share", ">=", _SIGNS)


def _network(device: str, proxy: LayerHwProxy, network: Network) -> dict[str, Any]:
    found = proxy.predict_segment(network.layers)
    return {
        "device": device, "network": network.name, "layers": len(network.layers), "measured_ms": network.lat_ms,
        "predicted_ms": found["lat_ms"], "error": found["lat_ms"] / network.lat_ms - 1,
        "measured_mb": network.mem_mb, "predicted_mb": found["mem_mb"], "measured_w": network.power_w,
        "predicted_w": found["power_w"],
    }  # fmt: skip
