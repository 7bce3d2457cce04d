import json

import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.mapping import STRATEGIES, MappingProblem, MappingSolver, coarse_partition, evaluate
from sparseflow.hardware.proxy import LayerSpec


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers_with_the_keys_of_the_seed(strategy):
    if strategy == "cp_sat":
        pytest.importorskip("ortools")
    lat = np.random.default_rng(0).uniform(1, 5, (6, 3))
    problem = MappingProblem(lat_ms=lat, traffic_bytes=np.array(1e6), link_bytes_per_s=np.array(1e9), mode="serial")
    found = MappingSolver(strategy).solve_mapping(problem, seed=0)
    json.dumps(found)
    cost = evaluate(problem, found["mapping"])
    assert found["per_slot_time"] == cost.per_slot_ms.tolist()
    assert found["total_latency_ms"] == cost.total_latency_ms
    assert found["comm_ms"] == cost.comm_ms
    assert found["violations"] == 0
    assert found["rewire_meta"] == []
    assert found["optimal"] == (strategy in ("viterbi", "dp", "cp_sat", "brute"))
    assert (found["bound"] is None) == (strategy in ("greedy_local", "search"))


def attentions(heavy):
    sizes = [(64, 32), (512, 64), (64, 32)] if heavy else [(64, 32)] * 3
    return [LayerSpec(name=f"{i}", kind="attn", tokens=t, channels=c, heads=8) for i, (t, c) in enumerate(sizes)]


def test_fine_splits_are_made_where_they_pay_and_told():
    for heavy in (True, False):
        segments = coarse_partition(attentions(heavy), segment_size=1)
        ms = np.array([s.flops / 1e6 for s in segments])
        problem = MappingProblem(lat_ms=ms[:, None] * np.ones((1, 6)), traffic_bytes=np.array(1e3))
        found = MappingSolver("search").solve_mapping(problem, segments, fine_splits=1)
        whole = MappingSolver("search").solve_mapping(problem, segments)
        if not heavy:
            assert found["rewire_meta"] == []
            assert len(found["segments"]) == 3
            continue
        (meta,) = found["rewire_meta"]
        assert meta["segment_id"] == 1
        assert meta["G"] == 2
        assert len(found["segments"]) == len(found["mapping"]) == 4
        assert found["objective"] < 0.95 * whole["objective"]


def test_faulty_arguments_are_named():
    with pytest.raises(ConfigError, match="greedy_local"):
        MappingSolver("best")
    with pytest.raises(ConfigError, match="needs the segments"):
        MappingSolver().solve_mapping(MappingProblem(lat_ms=np.ones((2, 2))), fine_splits=1)
