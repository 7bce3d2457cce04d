import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.mapping import MappingProblem, evaluate, slot_traffic
from sparseflow.hardware.mapping.objective import evaluate_many


def random_problem(seed, k=6, s=4, **more):
    r = np.random.default_rng(seed)
    return MappingProblem(
        lat_ms=r.uniform(1, 5, (k, s)),
        power_w=r.uniform(50, 100, (k, s)),
        weight_mb=r.uniform(1, 10, k),
        activation_mb=r.uniform(1, 10, k),
        limit_mb=r.uniform(10, 50, s),
        usable=np.arange(s) != 1,
        traffic_bytes=r.uniform(1e5, 1e7, k - 1),
        hop_ms=r.uniform(0, 0.1, (s, s)),
        link_bytes_per_s=r.uniform(1e9, 1e10, (s, s)),
        link_mj_per_byte=r.uniform(1e-8, 1e-7, (s, s)),
        **more,
    )


def by_hand(p, m):
    """The formulas of `MappingCost`, one loop each."""
    busy, mb, mj, link = [0.0] * p.slots, [0.0] * p.slots, [0.0] * p.slots, {}
    comm = energy = 0.0
    for s in range(p.slots):
        mine = [k for k in range(p.segments) if m[k] == s]
        busy[s] = sum(p.lat_ms[k, s] for k in mine)
        mj[s] = sum(p.lat_ms[k, s] * p.power_w[k, s] for k in mine)
        mb[s] = sum(p.weight_mb[k] for k in mine) + max((p.activation_mb[k] for k in mine), default=0.0)
    for k in range(p.segments - 1):
        s, t = m[k], m[k + 1]
        if s != t:
            wire = p.traffic_bytes[k] / p.link_bytes_per_s[s, t] * 1e3
            comm += p.hop_ms[s, t] + wire
            energy += p.traffic_bytes[k] * p.link_mj_per_byte[s, t]
            link[s, t] = link.get((s, t), 0.0) + wire
    latency = sum(busy) + comm
    energy += sum(mj)
    period = latency if p.mode == "serial" else max(*busy, *link.values(), 0.0)
    j = period + (0.0 if p.mode == "serial" else p.comm_weight * comm) + p.energy_weight * energy
    over = sum(mb[s] > p.limit_mb[s] for s in range(p.slots) if p.usable[s])
    return busy, mb, mj, comm, energy, latency, period, j, over + sum(not p.usable[s] for s in m)


@pytest.mark.parametrize("mode", ["serial", "balanced"])
@pytest.mark.parametrize("seed", range(5))
def test_every_figure_is_that_of_the_loops(mode, seed):
    p = random_problem(seed, mode=mode, comm_weight=0.2, energy_weight=0.01)
    for m in np.random.default_rng(seed).integers(0, 4, (50, 6)):
        c = evaluate(p, m)
        busy, mb, mj, comm, energy, latency, period, j, violations = by_hand(p, m)
        np.testing.assert_allclose(c.per_slot_ms, busy, rtol=1e-12)
        np.testing.assert_allclose(c.per_slot_mb, mb, rtol=1e-12)
        np.testing.assert_allclose(c.per_slot_mj, mj, rtol=1e-12)
        assert c.comm_ms == pytest.approx(comm, rel=1e-12)
        assert c.energy_mj == pytest.approx(energy, rel=1e-12)
        assert c.total_latency_ms == pytest.approx(latency, rel=1e-12)
        assert c.period_ms == pytest.approx(period, rel=1e-12)
        assert c.objective == pytest.approx(j, rel=1e-12)
        assert c.violations == violations


def test_many_mappings_cost_what_each_does():
    p = random_problem(0)
    mappings = np.random.default_rng(1).integers(0, 4, (30, 6))
    many = evaluate_many(p, mappings)
    np.testing.assert_array_equal(many.objective, [evaluate(p, m).objective for m in mappings])
    np.testing.assert_array_equal(many.violations, [evaluate(p, m).violations for m in mappings])


def test_memory_is_all_weights_and_the_largest_activations():
    p = MappingProblem(
        lat_ms=np.ones((3, 2)),
        weight_mb=np.array([3.0, 4.0, 5.0]),
        activation_mb=np.array([1.0, 7.0, 2.0]),
        limit_mb=np.array([14.0, 6.0]),
    )
    cost = evaluate(p, [0, 0, 1])
    assert cost.per_slot_mb.tolist() == [14.0, 7.0]
    assert cost.violations == 1


def test_one_segment_needs_no_links():
    p = MappingProblem(lat_ms=np.array([[2.0, 1.0]]))
    assert evaluate(p, [1]).objective == 1.0
    assert slot_traffic(p, [1]).tolist() == [[0, 0], [0, 0]]


def test_traffic_between_slots():
    p = MappingProblem(lat_ms=np.ones((4, 2)), traffic_bytes=np.array([1.0, 2.0, 4.0]))
    assert slot_traffic(p, [0, 1, 0, 1]).tolist() == [[0, 5], [2, 0]]
    assert slot_traffic(p, [0, 0, 1, 1]).tolist() == [[0, 2], [0, 0]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lat_ms": np.ones(3)}, "lat_ms has shape"),
        ({"lat_ms": np.ones((0, 2))}, "at least one"),
        ({"power_w": np.ones((2, 3))}, "power_w has shape"),
        ({"weight_mb": np.array([1.0, -1.0, 0.0])}, "weight_mb has a number that is negative"),
        ({"hop_ms": np.array(np.nan)}, "hop_ms has a number"),
        ({"lat_ms": np.full((3, 2), np.inf)}, "not finite"),
        ({"link_bytes_per_s": np.zeros(())}, "no bandwidth"),
        ({"usable": np.zeros(2, bool)}, "no slot is usable"),
        ({"mode": "both"}, "mode is"),
        ({"energy_weight": -1.0}, "energy_weight"),
    ],
)
def test_faulty_problems_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        MappingProblem(**{"lat_ms": np.ones((3, 2)), **fields})


@pytest.mark.parametrize("mapping", [[0, 1], [0, 1, 2], [0, -1, 1], [0.0, 1.0, 1.0], [[0, 1, 1]]])
def test_faulty_mappings_are_named(mapping):
    with pytest.raises(ConfigError, match="mapping"):
        evaluate(MappingProblem(lat_ms=np.ones((3, 2))), mapping)
