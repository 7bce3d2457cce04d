import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.mapping import MappingProblem, coarse_partition, evaluate, try_fine_split_segment
from sparseflow.hardware.mapping.brute import solve_brute
from sparseflow.hardware.mapping.fine_split import split_where_it_pays
from sparseflow.hardware.mapping.search import solve_search
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.recipes.codesign.mapping_instances import planted_split, random_problem, small_problem


@pytest.mark.parametrize("seed", range(20))
def test_a_split_is_taken_just_where_the_best_of_all_mappings_gains(seed):
    problem = random_problem(seed, segments=4, slots=4, mode="balanced")
    before, k = solve_brute(problem), seed % 4
    split = try_fine_split_segment(problem, k, before, solve=solve_brute)
    if split is None:
        return
    assert split.found.cost.objective + 0.05 * before.cost.objective < before.cost.objective
    assert evaluate(split.problem, split.found.mapping).violations == 0
    slots = split.found.mapping[k : k + 2].tolist()
    assert slots == list(split.meta["group_to_slot"].values())
    assert len(set(slots)) == 2


@pytest.mark.parametrize("seed", range(8))
def test_planted_gains_are_taken(seed):
    problem, heavy = planted_split(seed)
    split = try_fine_split_segment(problem, heavy, solve_search(problem))
    assert split is not None
    assert split.problem.segments == problem.segments + 1


def test_groups_carry_shares_of_the_segment_and_all_that_passes_between_them():
    problem = MappingProblem(
        lat_ms=np.array([[1.0] * 4, [8.0] * 4, [1.0] * 4]),
        weight_mb=np.array([1.0, 4.0, 1.0]),
        activation_mb=np.array([1.0, 2.0, 1.0]),
        traffic_bytes=np.array([100.0, 300.0]),
    )
    before = solve_search(problem)
    split = try_fine_split_segment(problem, 1, before, unit_loads=[3.0, 1.0, 1.0, 1.0, 2.0], reductions=2)
    assert split.problem.lat_ms[1:3, 0].tolist() == [4.0, 4.0]
    assert split.problem.weight_mb.tolist() == [1.0, 2.0, 2.0, 1.0]
    assert split.problem.activation_mb.tolist() == [1.0, 2.0, 2.0, 1.0]
    assert split.problem.traffic_bytes.tolist() == [100.0, 100.0 + 3 * 300.0, 300.0]
    perm, inv = split.meta["perm"], split.meta["inv_perm"]
    assert [perm[i] for i in inv] == [0, 1, 2, 3, 4]
    assert sum(split.meta["counts"]) == 5


def test_a_slow_link_forbids_what_a_fast_one_allows():
    def problem(rate):
        return MappingProblem(
            lat_ms=np.array([[1.0] * 4, [8.0] * 4]), traffic_bytes=np.array([1e6]), link_bytes_per_s=np.array(rate)
        )

    assert try_fine_split_segment(problem(1e9), 1, solve_search(problem(1e9))) is not None
    assert try_fine_split_segment(problem(1e8), 1, solve_search(problem(1e8))) is None


def test_serial_problems_gain_nothing():
    for seed in (0, 1, 4, 5):
        problem = small_problem(seed)
        assert problem.mode == "serial"
        assert try_fine_split_segment(problem, 0, solve_brute(problem)) is None


def test_one_slot_allows_no_split():
    problem = MappingProblem(lat_ms=np.ones((3, 1)))
    assert try_fine_split_segment(problem, 1, solve_search(problem)) is None


def attentions(count):
    layers = [LayerSpec(name=f"{i}", kind="attn", tokens=64, channels=32, heads=4) for i in range(count)]
    return coarse_partition(layers, segment_size=1)


def test_splits_go_on_while_they_pay_and_never_cost():
    segments = attentions(3)
    problem = MappingProblem(lat_ms=np.array([[8.0] * 8, [6.0] * 8, [1.0] * 8]), traffic_bytes=np.array(1.0))
    found = solve_search(problem)
    fine, parts, after, metas = split_where_it_pays(problem, found, segments)
    assert [m["segment_id"] for m in metas] == [0, 2]
    assert after.cost.period_ms == pytest.approx(4.0)
    assert fine.segments == len(parts) == 5
    assert [p.id for p in parts] == list(range(5))
    assert [p.fine_groups for p in parts] == [2, 2, 2, 2, None]
    assert sum(p.flops for p in parts) == pytest.approx(sum(s.flops for s in segments))
    assert split_where_it_pays(problem, found, segments, most=0)[3] == []


def test_faulty_arguments_are_named():
    problem = MappingProblem(lat_ms=np.ones((2, 2)))
    found = solve_search(problem)
    for options in ({"k": 2}, {"k": 0, "groups": 1}, {"k": 0, "reductions": 0}):
        with pytest.raises(ConfigError, match="expected a segment"):
            try_fine_split_segment(problem, options.pop("k"), found, **options)
    convolution = LayerSpec(
        name="c", kind="conv", tokens=4, channels=4, attrs=(("in_channels", 4), ("taps", 9), ("in_tokens", 4))
    )
    with pytest.raises(ConfigError, match="cannot be split"):
        try_fine_split_segment(problem, 0, found, coarse_partition([convolution] * 2, segment_size=1))
    with pytest.raises(ConfigError, match="nothing to split"):
        try_fine_split_segment(problem, 0, found, unit_loads=[0.0, 0.0])
