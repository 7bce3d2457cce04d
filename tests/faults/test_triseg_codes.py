"""Faults of the earlier tri-segment search that concern codes, histograms, finalists and the result file."""

import json

import pytest
import torch

from sparseflow.compress.approximate.codes import CODE_MAX, RELATIVE, SEED, initial_codes, sample_codes
from sparseflow.compress.approximate.dp import optimal_codes, segment_error
from sparseflow.compress.approximate.histogram import Histograms, TmaxRule, layer_states
from sparseflow.compress.approximate.result import Metrics, TriSegResult
from sparseflow.compress.approximate.select import Finalist, select
from sparseflow.compress.approximate.top import Top
from sparseflow.errors import ConfigError, DataError


def wide_histogram() -> torch.Tensor:
    """A layer whose codes reach far, as where the scale was set by typical values."""
    return (torch.exp(-torch.arange(256) / 60.0) * (torch.arange(256) < 128) * 1e6).long()[None]


def test_the_first_guess_violated_its_own_mask() -> None:
    literal = initial_codes([35], rule="code", masks=None)
    assert literal.tolist() == [[12, 18, 24, 29, 35]]
    assert not bool(SEED.holds(literal))
    tmax = torch.arange(15, 128)
    for masks in (RELATIVE, SEED):
        for rule in ("document", "code"):
            assert bool(masks.holds(initial_codes(tmax, rule=rule, masks=masks)).all())


def test_t1_was_at_most_10_at_any_scale() -> None:
    histogram = wide_histogram()
    bound, free = (optimal_codes(histogram, tmax=[120], masks=m) for m in (SEED, RELATIVE))
    assert int(bound.codes[0, 0]) == 10
    assert int(free.codes[0, 0]) > 10
    assert float(free.error) < 0.9 * float(bound.error)


def test_the_first_guess_was_only_printed_where_the_exact_optimum_is_free() -> None:
    histogram = wide_histogram()
    best = optimal_codes(histogram, tmax=[120])
    for rule in ("document", "code"):
        assert float(best.error) < float(segment_error(histogram, initial_codes([120], rule=rule)))


def test_the_list_of_the_best_held_one_configuration_many_times() -> None:
    codes = sample_codes([35] * 7, 2, seed=0)
    told = codes[[0] * 29 + [1]]
    rewards = -torch.arange(1.0, 31.0)
    literal, mended = Top(30, distinct=False), Top(30)
    for top in (literal, mended):
        top.add(told, rewards)
    assert len({tuple(c.flatten().tolist()) for c in literal.codes()}) == 2
    assert len(literal) == 30
    assert len(mended) == 2


def test_the_list_of_the_best_kept_lucky_batches() -> None:
    lucky, steady = sample_codes([35] * 7, 2, seed=0)
    rewards = torch.tensor([-0.5, -4.0, -4.5, -2.0, -2.1, -2.2])
    top = Top(1)
    top.add(torch.stack([lucky] * 3 + [steady] * 3), rewards)
    assert torch.equal(top.codes()[0], steady)


def test_the_winner_was_chosen_on_the_test_images() -> None:
    codes = initial_codes([35])
    on_test = [Finalist(codes=codes, accuracy=91.0, split="test")]
    with pytest.raises(ConfigError, match="split 'test'; select on 'val'"):
        select(on_test, acc_teacher=92.5)


def test_values_lay_beyond_the_codes_that_the_student_has() -> None:
    counts = torch.zeros(1, 256, dtype=torch.int64)
    counts[0, CODE_MAX] = 1
    assert int(TmaxRule(mode="percentile", high=255)(counts)) == 137
    tmax = TmaxRule(mode="percentile")(counts)
    assert int(tmax) == CODE_MAX
    assert int(sample_codes(tmax, 500, seed=0).max()) == CODE_MAX


def test_a_network_of_one_site_divided_by_zero() -> None:
    assert bool(layer_states(torch.zeros(1, 256, dtype=torch.int64)).isfinite().all())


def test_a_histogram_under_another_name_was_a_key_error() -> None:
    with pytest.raises(ConfigError, match=r"no site 'block_output.conv1'; there are conv1"):
        Histograms(["conv1"]).add("block_output.conv1", torch.zeros(1))


def test_codes_out_of_order_in_a_file_were_run(tmp_path) -> None:
    good = TriSegResult.of(
        ["conv1"], initial_codes([35]), backend="fbgemm", model="alexnet", selection="", metrics=Metrics.of(92.5, 91.0)
    )
    body = json.loads(good.to_json())
    body["layers"]["conv1"]["t1_code"] = 30
    path = tmp_path / "exp.json"
    path.write_text(json.dumps(body))
    with pytest.raises(DataError, match=r"exp.json: layer 'conv1': t1_code 30 is above t2_code 21"):
        TriSegResult.read(path)
