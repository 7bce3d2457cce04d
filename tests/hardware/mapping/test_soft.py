import numpy as np
import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.hardware.mapping import MappingProblem, evaluate, expected_cost

FIGURES = ("period_ms", "total_latency_ms", "comm_ms", "energy_mj", "objective")


def random_problem(seed, k=5, s=3, **more):
    r = np.random.default_rng(seed)
    return MappingProblem(
        lat_ms=r.uniform(1, 5, (k, s)),
        power_w=r.uniform(50, 100, (k, s)),
        weight_mb=r.uniform(1, 10, k),
        activation_mb=r.uniform(1, 10, k),
        traffic_bytes=r.uniform(1e5, 1e7, k - 1),
        hop_ms=r.uniform(0, 0.1, (s, s)),
        link_bytes_per_s=r.uniform(1e9, 1e10, (s, s)),
        link_mj_per_byte=r.uniform(1e-8, 1e-7, (s, s)),
        comm_weight=0.1,
        energy_weight=0.01,
        **more,
    )


@pytest.mark.parametrize("mode", ["serial", "balanced"])
@pytest.mark.parametrize("seed", range(4))
def test_a_chosen_mapping_costs_what_the_hard_objective_says(mode, seed):
    p = random_problem(seed, mode=mode)
    for m in np.random.default_rng(seed).integers(0, 3, (20, 5)):
        hard, soft = evaluate(p, m), expected_cost(p, m)
        for name in FIGURES:
            assert getattr(soft, name).item() == pytest.approx(getattr(hard, name), rel=1e-12)
        for name in ("per_slot_ms", "per_slot_mb", "per_slot_mj"):
            np.testing.assert_allclose(getattr(soft, name).numpy(), getattr(hard, name), rtol=1e-12)


def test_expectations_of_sums_are_those_of_samples():
    # Sums over segments and transfers are linear in each row of chances; the largest load is not.
    p = random_problem(3, mode="serial")
    pi = torch.softmax(torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 1)
    mean = np.zeros(3)
    for flat in range(3**5):
        m = np.array([flat // 3**i % 3 for i in range(5)])
        chance = float(np.prod([pi[k, s] for k, s in enumerate(m)]))
        c = evaluate(p, m)
        mean += chance * np.array([c.total_latency_ms, c.comm_ms, c.energy_mj])
    soft = expected_cost(p, pi)
    assert [soft.total_latency_ms.item(), soft.comm_ms.item(), soft.energy_mj.item()] == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("mode", ["serial", "balanced"])
def test_gradients_of_all_fields_agree_with_differences(mode):
    p = random_problem(1, mode=mode)
    names = ("lat_ms", "power_w", "traffic_bytes", "hop_ms", "link_bytes_per_s", "link_mj_per_byte")
    inputs = [torch.tensor(getattr(p, n)).requires_grad_() for n in names]
    pi = torch.softmax(torch.randn(5, 3, dtype=torch.float64), 1).requires_grad_()

    def j(assign, *fields):
        return expected_cost(p, assign, dict(zip(names, fields, strict=True))).objective

    # Bandwidths of 1e9 need a step of their own size.
    scaled = [x.detach() / x.detach().abs().mean() for x in inputs]
    scales = [x.detach().abs().mean() for x in inputs]

    def of_scaled(assign, *fields):
        return j(assign, *(f * s for f, s in zip(fields, scales, strict=True)))

    assert torch.autograd.gradcheck(of_scaled, (pi, *(x.requires_grad_() for x in scaled)))


def test_a_sharp_period_nears_the_largest_load_from_above():
    p = random_problem(2)
    m = np.array([0, 1, 2, 0, 1])
    hard = expected_cost(p, m).period_ms
    gaps = [(expected_cost(p, m, sharpness=b).period_ms - hard).item() for b in (10.0, 100.0, 1000.0)]
    assert gaps[0] > gaps[1] > gaps[2] >= 0
    assert gaps[2] < 1e-2


def test_a_sharp_period_passes_gradients_to_all_loads_and_most_to_the_largest():
    p = random_problem(2)
    lat = torch.tensor(p.lat_ms).requires_grad_()
    m = np.array([0, 1, 2, 0, 1])
    soft = expected_cost(p, m, {"lat_ms": lat}, sharpness=5.0)
    (g,) = torch.autograd.grad(soft.period_ms, lat)
    on = g[torch.arange(5), m]
    assert on.min() > 0
    assert g.sum() == pytest.approx(on.sum())
    assert m[on.argmax()] == soft.per_slot_ms.argmax()


def test_faulty_arguments_are_named():
    p = random_problem(0)
    with pytest.raises(ConfigError, match="limit_mb"):
        expected_cost(p, np.zeros(5, int), {"limit_mb": torch.ones(3)})
    with pytest.raises(ConfigError, match="chances"):
        expected_cost(p, torch.ones(3, 5))
    with pytest.raises(ConfigError, match="names the slot"):
        expected_cost(p, np.zeros(4, int))
