from dataclasses import replace

import pytest

from sparseflow.ir import LayerReport, Report
from sparseflow.report import Run
from sparseflow.report.charts import density_rows, gain, layer_rows, scatter, variant_rows


def test_variants_are_sorted_and_scaled_to_the_slowest(run):
    rows = variant_rows(run)
    assert rows[0]["name"] == "sparseflow"
    assert rows[-1]["label"] == "not run"
    assert rows[-1]["width"] == 0
    assert max(r["high"] for r in rows) == 100
    assert [r["name"] for r in rows if r["best"]] == ["sparseflow", "torch, compiled, channels_last, frozen"]
    assert rows[0]["speed"] == "3.45×"


def test_layer_rows_share_one_scale_and_keep_dense_layers_grey(run):
    rows = {r["name"]: r for r in layer_rows(run.report.layers)}
    assert max(r["dense"] for r in rows.values()) == 100
    assert rows["features.0.conv"]["chosen"] == pytest.approx(100 * 9.4 / 31, abs=0.01)
    assert not rows["stem"]["faster"]
    assert rows["stem"]["speedup"] == "dense"


def test_a_whole_block_marks_the_dense_kernel_and_counts_against_the_best_dense_time():
    x = LayerReport(
        name="a", op="conv2d", kernel="event", dense_s=8.0, kernel_s=1.0,
        timings_s={"original": 8.0, "dense": 4.0, "event": 1.0},
    )  # fmt: skip
    (row,) = layer_rows((x,))
    assert (row["dense"], row["chosen"], row["mark"], row["speedup"]) == (100.0, 12.5, 50.0, "4.00×")
    assert gain(replace(x, kernel_s=None)) is None


def test_without_spikes_every_known_density_is_drawn():
    assert len(density_rows((LayerReport(name="a", op="conv2d", density=1.0), LayerReport(name="b", op="add")))) == 1


def test_untimed_layers_have_no_time_bar():
    assert layer_rows((LayerReport(name="a", op="conv2d"),)) == []


def test_density_ends_at_a_round_share(run):
    rows = density_rows(run.report.layers)
    assert len(rows) == 8
    assert {r["name"]: r["width"] for r in rows}["classifier.1"] == 70.0


def test_scatter_lies_on_the_diagonal_for_a_perfect_model():
    layers = tuple(LayerReport(name=str(i), op="conv2d", kernel_s=10**-i, predicted_s=10**-i) for i in (2, 3, 4))
    plot = scatter(layers)
    assert plot.error == pytest.approx(1.0)
    assert all(p.x == pytest.approx(p.y) and 0 <= p.x <= 1 for p in plot.points)
    assert [t[1].replace("\u202f", " ") for t in plot.ticks] == ["100 µs", "1 ms", "10 ms"]


def test_scatter_needs_two_points(run):
    assert scatter(run.report.layers[:1]) is None


def test_nothing_measured_draws_nothing():
    run = Run(title="m", report=Report(model="m", target="cpu"))
    assert variant_rows(run) == []
    assert variant_rows(replace(run, variants=())) == []
