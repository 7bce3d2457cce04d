import json

import numpy as np
import pytest

from sparseflow.hardware.mapping import MappingSolver
from sparseflow.recipes.codesign import mapping_bench
from sparseflow.recipes.codesign.mapping_bench import bench


@pytest.fixture
def short(monkeypatch):
    """Two problems of each kind; what they cost is not of interest here."""
    pytest.importorskip("ortools")
    monkeypatch.setattr(mapping_bench, "_COUNTS", {"search": 2, "exact": 2, "split": 2, "planted": 2})


def test_every_figure_of_the_list_is_a_check(short):
    said = []
    body = bench(quick=True, say=said.append)
    json.dumps(body)
    names = [c["name"] for c in body["checks"]]
    assert len(names) == len(set(names)) == 11
    assert {c["show"] for c in body["checks"]} == {"2"}
    by_name = {c["name"]: c["ok"] for c in body["checks"]}
    del by_name["time of search, longest"]  # a busy machine says nothing about time
    assert all(by_name.values()), by_name
    assert len(body["instances"]) == 2
    assert said


def test_a_poor_solver_is_found_out(short, monkeypatch):
    def anywhere(self, problem, **options):
        found = solve(self, problem, **options)
        if self.strategy != "search":
            return found
        slot = int(np.flatnonzero(problem.usable)[0])
        return type(found)(
            mapping=found.mapping * 0 + slot, cost=mapping_bench.evaluate(problem, [slot] * problem.segments)
        )

    solve = MappingSolver.solve
    monkeypatch.setattr(MappingSolver, "solve", anywhere)
    monkeypatch.setattr(mapping_bench, "try_fine_split_segment", lambda *a, **b: None)
    failed = {c["name"] for c in bench(quick=True)["checks"] if not c["ok"]}
    assert {"gap of search, mean", "gap of search, worst", "violations", "planted splits accepted"} <= failed
