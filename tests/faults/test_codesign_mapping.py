"""Faults of the earlier mapping, numbered as in the study of it; each failed before and must not come back."""

import numpy as np
import pytest
import torch

from sparseflow.errors import BudgetError
from sparseflow.hardware.mapping import (
    MappingProblem,
    MappingSolver,
    evaluate,
    expected_cost,
    try_fine_split_segment,
)
from sparseflow.hardware.mapping.rewire import group_units, inverse
from sparseflow.recipes.codesign.mapping_instances import random_problem


def test_fault_10_costs_stay_in_the_graph():
    lat = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.float64, requires_grad=True)
    problem = MappingProblem(lat_ms=lat.detach().numpy())
    best = MappingSolver("brute").solve(problem)
    expected_cost(problem, best.mapping, {"lat_ms": lat}).objective.backward()
    # By Danskin the optimum moves with the cost of the fullest slot, and with no other.
    assert lat.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]] or lat.grad.tolist() == [[0.5, 0.0], [0.0, 0.5]]


@pytest.mark.parametrize("strategy", ["greedy_local", "search", "viterbi", "dp", "cp_sat", "brute"])
def test_fault_11_no_segment_is_on_an_empty_slot(strategy):
    if strategy == "cp_sat":
        pytest.importorskip("ortools")
    # The empty slots would be by far the fastest.
    lat = np.array([[0.001, 1.0, 0.001, 2.0]] * 5)
    usable = np.array([False, True, False, True])
    found = MappingSolver(strategy).solve(MappingProblem(lat_ms=lat, usable=usable, mode="serial"))
    assert usable[found.mapping].all()


def test_fault_12_memory_is_mended_and_swaps_are_seen():
    # From its start in turn every single move overfills a slot; only an exchange helps.
    problem = MappingProblem(
        lat_ms=np.array([[1.0, 9.0], [9.0, 1.0]])[::-1],
        weight_mb=np.array([2.0, 2.0]),
        limit_mb=np.array([2.0, 2.0]),
    )
    assert MappingSolver("greedy_local").solve(problem).cost.objective == 9.0
    assert MappingSolver("search").solve(problem).cost.objective == 1.0
    # And a start that breaks a limit stays broken there.
    tight = MappingProblem(
        lat_ms=np.ones((4, 2)), weight_mb=np.array([3.0, 1.0, 3.0, 1.0]), limit_mb=np.array([4.0, 4.0])
    )
    with pytest.raises(BudgetError, match="greedy_local"):
        MappingSolver("greedy_local").solve(tight)
    assert MappingSolver("search").solve(tight).cost.violations == 0


def test_fault_13_memory_is_all_weights_and_the_largest_activations():
    problem = MappingProblem(lat_ms=np.ones((3, 1)), weight_mb=np.full(3, 2.0), activation_mb=np.array([1.0, 5.0, 3.0]))
    assert evaluate(problem, [0, 0, 0]).per_slot_mb.tolist() == [11.0]


def test_fault_14_a_split_is_taken_only_for_a_joint_mapping_that_is_better():
    # Half of each segment on one slot looks twice as fast; of a serial network or a full wafer it is not.
    for seed in range(10):
        problem = random_problem(seed, segments=6, slots=4, mode="balanced")
        before = MappingSolver("brute").solve(problem)
        split = try_fine_split_segment(problem, seed % 6, before)
        if split is not None:
            after = evaluate(split.problem, split.found.mapping)
            assert after.objective < 0.95 * before.cost.objective
            assert len(set(split.meta["group_to_slot"].values())) == 2


def test_fault_15_heads_are_sorted_by_where_they_go():
    perm, counts = group_units([0.1, 4.0, 0.2, 3.0, 0.0, 0.3], 2)
    assert perm != list(range(6))
    groups = perm[: counts[0]], perm[counts[0] :]
    assert 1 in groups[0]
    assert 3 in groups[1]
    assert [perm[i] for i in inverse(perm)] == list(range(6))
