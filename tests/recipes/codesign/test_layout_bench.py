import pytest

from sparseflow.recipes.codesign import layout_bench


@pytest.fixture(scope="module")
def body():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout_bench, "_QUICK_RUNS", 2)
        patch.setattr(layout_bench, "_CELL_MM", 3.0)
        patch.setattr(layout_bench, "_QUICK_DIES", 18)
        quick = layout_bench.DescendConfig(steps=30, restarts=3, polish_steps=50)
        patch.setattr(layout_bench, "DescendConfig", lambda seed: quick)
        lines = []
        yield layout_bench.bench(quick=True, say=lines.append)
        assert len(lines) == 2


def test_every_claim_has_a_check(body):
    assert len(body["checks"]) == 9
    assert all(c["show"] == "4" for c in body["checks"])
    legal = {c["name"]: c["value"] for c in body["checks"] if "overlap" in c["name"] or "corners" in c["name"]}
    assert set(legal.values()) == {1.0}


def test_rows_hold_what_checks_are_made_of(body):
    assert len(body["runs"]) == 2
    assert all(row["cost"] > 0 and row["cost_annealing"] > 0 and row["seconds"] > 0 for row in body["runs"])
    worst = next(c for c in body["checks"] if "finite differences" in c["name"])
    assert worst["value"] == max(row["heat_error"] for row in body["runs"])


def test_an_overlap_fails_the_bench(monkeypatch):
    monkeypatch.setattr(layout_bench, "_QUICK_RUNS", 2)
    monkeypatch.setattr(layout_bench, "_QUICK_DIES", 4)
    monkeypatch.setattr(layout_bench, "_CELL_MM", 5.0)

    def piled(layout, problem, *, seed):
        layout._set(layout.grid(*layout_bench._operands(problem)[:2]).numpy() * 0.3)
        return layout.result(*layout_bench._operands(problem))

    monkeypatch.setattr(layout_bench, "_optimise", piled)
    body = layout_bench.bench(quick=True)
    assert not body["ok"]
    assert not next(c for c in body["checks"] if c["name"] == "runs without overlap")["ok"]
