"""What a search works on: the sites, the exact start, and images as the network was trained to read them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparseflow.compress.approximate import TmaxRule, check_codes, masks_named, optimal_codes, segment_error
from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.triseg.problem import device_named, inputs_of, pose
from sparseflow.recipes.triseg.search_config import SearchConfig
from tests.triseg_teachers import images, save_teacher, splits


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_teacher(folder, steps=8)
    return folder


def test_a_problem_is_laid_out(out: Path) -> None:
    config = SearchConfig(model="lenet5", out=str(out), device="cpu", calib_batches=1)
    problem = pose(config, splits=splits())
    assert problem.names == problem.teacher.names
    assert problem.taps == ("conv1", "conv2")
    assert problem.histograms.counts.sum(1).tolist()[0] == 32 * 6 * 28 * 28
    check_codes(problem.start, masks=masks_named("relative"))
    # No neighbour of the start changes the codes less, as the histograms weigh them.
    best = segment_error(problem.histograms.fisher, problem.start)
    moved = problem.start.clone()
    moved[:, 3] -= 1
    assert (segment_error(problem.histograms.fisher, moved) >= best).all()
    assert set(problem.states) == set(problem.names)
    task = problem.task(config)
    assert torch.equal(problem.space.codes([task.start])[0], problem.start)
    assert problem.splits.test.opened == ()


@pytest.mark.parametrize("allowed", [0.0, 3.0, 100.0])
def test_more_codes_pass_where_too_much_is_lost(out: Path, allowed: float) -> None:
    config = SearchConfig(model="lenet5", out=str(out), device="cpu", max_acc_drop=allowed)
    shares = (60.0, 30.0, 5.0)
    plain = pose(config, splits=splits())
    judge = plain.evaluator(plain.splits.val)
    for rule in (config.tmax, *(TmaxRule(percentile=share) for share in shares)):
        tmax = rule(plain.histograms.counts)
        start = optimal_codes(plain.histograms.fisher, tmax=tmax).codes
        if 100 * (judge.teacher_accuracy - float(judge.score(start[None]).accuracy)) <= allowed:
            break
    found = pose(replace(config, tmax_shares=shares), splits=splits())
    assert found.space.tmax == tuple(tmax.tolist())
    assert torch.equal(found.start, start)
    assert (found.space.tmax == plain.space.tmax) == (rule == config.tmax)
    assert found.splits.test.opened == ()


def test_scores_of_the_teacher(out: Path) -> None:
    problem = pose(SearchConfig(model="lenet5", out=str(out), device="cpu"), splits=splits())
    with_attention = problem.evaluator(problem.splits.val)
    without = problem.evaluator(problem.splits.val, attention=False)
    codes = problem.start[None]
    assert torch.equal(without.score(codes).reward, -with_attention.score(codes).kd)
    logits = problem.teacher.net(inputs_of(problem.teacher, problem.splits.val))
    right = float((logits.argmax(1) == problem.splits.val.labels).double().mean())
    assert without.teacher_accuracy == pytest.approx(right)


def test_layers_masks_and_taps_can_be_named(out: Path) -> None:
    config = SearchConfig(
        model="lenet5", out=str(out), device="cpu", layers=("conv2", "fc1"), attention_layers=("fc1",), masks="seed"
    )
    problem = pose(config, splits=splits())
    assert problem.names == ("conv2", "fc1")
    assert problem.taps == ("fc1",)
    check_codes(problem.start, masks=masks_named("seed"))
    with pytest.raises(ConfigError, match="has no layers conv9; there are conv1"):
        pose(SearchConfig(model="lenet5", out=str(out), device="cpu", layers=("conv9",)), splits=splits())


def test_images_of_another_shape_and_absent_devices_are_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = pose(SearchConfig(model="lenet5", out=str(out), device="cpu"), splits=splits())
    other = images(2)
    object.__setattr__(other, "images", other.images[:, :, :16])
    with pytest.raises(DataError, match="reads"):
        inputs_of(problem.teacher, other)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        device_named("cuda")
    assert device_named("auto").type == "cpu"
