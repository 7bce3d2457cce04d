from pathlib import Path

import pytest
import torch
from torch import nn

from sparseflow.compress.approximate import TriSegResult, check_codes
from sparseflow.compress.approximate.finetune import SegmentedNet
from sparseflow.compress.quantize import calibrate, prepare_qat, quantizers, to_integer
from sparseflow.compress.quantize.fake_quant import WeightFakeQuantize
from sparseflow.compress.quantize.qat import set_enabled
from sparseflow.errors import ConfigError, DataError
from sparseflow.nn import models
from sparseflow.recipes.triseg import finetune
from sparseflow.recipes.triseg import fit as fit_module
from sparseflow.recipes.triseg.checkpoint import build_network, read_qat, save_qat
from sparseflow.recipes.triseg.config import FinetuneConfig
from sparseflow.recipes.triseg.finetune import finetune_seeds, finetune_triseg, start_codes, student_accuracy
from sparseflow.recipes.triseg.teacher import QAT, load_teacher
from sparseflow.recipes.triseg.train import images_of, splits_of

NAMES = ("conv1", "conv2", "fc1", "fc2")


def config(tmp_path, **more):
    settings = {"model": "lenet5", "out": str(tmp_path), "epochs": 2, "batch_size": 64, "train_limit": 192, "val": 100}
    return FinetuneConfig(**(settings | {"calib": 64, "device": "cpu", "lr": 2e-3} | more))


def start(tmp_path):
    torch.manual_seed(0)
    splits = splits_of(config(tmp_path))
    x = splits.calib.normalize(splits.calib.images)
    qat = prepare_qat(models.build("lenet5"), x[:8])
    calibrate(qat, [x])
    save_qat(
        tmp_path / QAT.format(model="lenet5"), qat, model="lenet5", arguments={}, images=images_of(splits.train),
        record={},
    )  # fmt: skip
    return to_integer(qat)


@pytest.mark.parametrize(("mode", "rule"), [("pass", "gradient"), ("clip", "gradient"), ("saturate", None)])
def test_files_hold_the_student_of_the_record(tmp_path, mode, rule):
    start(tmp_path)
    c = config(tmp_path, mode=mode, code_rule=rule)
    record = finetune_triseg(c, progress=False)
    result = TriSegResult.read(record["result"], names=NAMES, model="lenet5")
    assert (result.overflow, result.split) == (mode, "val")
    codes = check_codes(result.codes(NAMES), names=NAMES)
    assert dict(zip(NAMES, codes.tolist(), strict=True)) == record["codes"]
    student = load_teacher(record["file"])
    points = dict(zip(student.names, student.points, strict=True))
    got = student_accuracy(student.net, points, codes, mode, splits_of(c).val, torch.device("cpu"))
    assert got == record["acc_student"]
    assert result.metrics.acc_student == pytest.approx(100 * got)
    assert read_qat(record["file"]).record["codes"] == record["codes"]
    assert record["history"][-1]["loss"] < record["history"][0]["loss"]
    again = finetune_triseg(c, progress=False)
    assert again["codes"] == record["codes"]


def test_codes_are_fitted_anew_and_a_run_that_was_stopped_fits_the_same(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        start(tmp_path / name)
    fitted = []
    refit = SegmentedNet.refit

    def kept(net, histogram):
        refit(net, histogram)
        fitted.append(net.codes.tolist())

    monkeypatch.setattr(SegmentedNet, "refit", kept)
    settings = {"mode": "saturate", "epochs": 4, "code_share": 0.8, "code_rule": "fisher", "train_limit": 64, "val": 30}
    whole = finetune_triseg(config(tmp_path / "a", **settings), progress=False)
    first = fitted.copy()
    # Once in front of each epoch but the first, until four fifths of the run lie behind.
    assert len(first) == 3
    assert first[0] != first[-1]
    fitted.clear()
    save, saved = fit_module.save_state, []

    def stop(*args):
        save(*args)
        saved.append(args)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fit_module, "save_state", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune_triseg(config(tmp_path / "b", **settings), progress=False)
    resumed = finetune_triseg(config(tmp_path / "b", **settings), progress=False)
    assert fitted == first
    assert resumed["codes"] == whole["codes"]
    assert [line["loss"] for line in resumed["history"]] == [line["loss"] for line in whole["history"]]


def test_a_search_gives_the_codes_to_start_from(tmp_path):
    start(tmp_path)
    first = finetune_triseg(config(tmp_path, epochs=1), progress=False)
    codes = torch.tensor([[3, 9, 14, 22, 40]] * 4)
    TriSegResult.of(
        NAMES, codes, backend="fbgemm", model="lenet5", selection="by hand",
        metrics=TriSegResult.read(first["result"]).metrics,
    ).write(tmp_path / "mine.json")  # fmt: skip
    c = config(tmp_path, epochs=1, seed=1, config_path=str(tmp_path / "mine.json"), code_share=0.0)
    assert list(finetune_triseg(c, progress=False)["codes"].values()) == codes.tolist()


def test_a_clipping_start_leaves_room_above_v2(tmp_path):
    start(tmp_path)
    c = config(tmp_path, mode="clip")
    found = read_qat(tmp_path / QAT.format(model="lenet5"))
    points = {site.name: site.node for site in found.sites}
    codes = start_codes(c, found, points, splits_of(c).calib, torch.device("cpu"))
    check_codes(codes, names=NAMES)
    assert ((codes[:, 4] > codes[:, 3]) | (codes[:, 3] == 127)).all()


def test_seeds_write_files_of_their_own_and_their_scatter_is_told(tmp_path):
    start(tmp_path)
    found = finetune_seeds(config(tmp_path, epochs=1), (0, 1), progress=False)
    assert len({record["file"] for record in found["records"].values()}) == 2
    drops = [100 * (r["acc_teacher"] - r["acc_student"]) for r in found["records"].values()]
    assert found["drop_mean"] == pytest.approx(sum(drops) / 2)
    assert found["drop_std"] == pytest.approx(abs(drops[0] - drops[1]) / 2**0.5)
    with pytest.raises(ConfigError, match="each once"):
        finetune_seeds(config(tmp_path), (1, 1))
    with pytest.raises(ConfigError, match="leave it out"):
        finetune_seeds(config(tmp_path, result_file="x.json"), (0, 1))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"lenet5_qat_preconvert\.safetensors"):
        finetune_triseg(config(tmp_path), progress=False)
    start(tmp_path)
    with pytest.raises(DataError, match=r"gone\.json"):
        finetune_triseg(config(tmp_path, config_path=str(tmp_path / "gone.json")), progress=False)


NET = """
from torch import nn
def build(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(width * 225, 16),
        nn.ReLU(), nn.Linear(16, 10),
    )
"""


def test_training_sees_no_dropout_scales_follow_and_the_unrounded_network_teaches(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(NET)
    name = f"{tmp_path}/mine.py:build"
    torch.manual_seed(0)
    splits = splits_of(config(tmp_path))
    x = splits.calib.normalize(splits.calib.images)
    plain = build_network(name).eval()
    qat = prepare_qat(plain, x[:8])
    calibrate(qat, [x])
    path = tmp_path / QAT.format(model="build")
    save_qat(path, qat, model=name, arguments={}, images=images_of(splits.train), record={})
    seen = {}

    def spy(model, *_, guide, before_epoch, **rest):
        weights = [m for m in model.modules() if isinstance(m, WeightFakeQuantize)]
        seen["p"] = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
        said = guide(x[:16])
        assert not said.requires_grad
        stored = build_network(name).eval()
        set_enabled(found := read_qat(path, builder=lambda **a: stored).graph, False)
        assert torch.equal(said, found(x[:16]))
        before_epoch(0.0)
        assert all(m.observing for m in weights)
        assert before_epoch(0.95)
        assert not any(m.observing for m in weights)
        before_epoch(0.0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(-1)
        return []

    accuracies = iter((0.5, 0.4))
    monkeypatch.setattr(finetune, "fit", spy)
    monkeypatch.setattr(finetune, "student_accuracy", lambda *_: next(accuracies))
    record = finetune_triseg(config(tmp_path, model=name), progress=False)
    assert seen["p"] == [0.0]
    # What training made of the network is worse than its start, which therefore stands.
    assert record["acc_student"] == record["acc_frozen"] == 0.5
    back = read_qat(record["file"], builder=lambda **a: build_network(name)).graph
    assert torch.equal(back(x[:16]), read_qat(path, builder=lambda **a: build_network(name)).graph(x[:16]))
    assert "0 epochs" in TriSegResult.read(record["result"]).selection


NORMED = """
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(1800, 16), nn.ReLU(),
        nn.Linear(16, 10),
    )
"""


@pytest.mark.parametrize("frozen", [False, True])
def test_statistics_of_norms_follow_the_batches_unless_they_are_frozen(tmp_path, monkeypatch, frozen):
    (tmp_path / "normed.py").write_text(NORMED)
    name = f"{tmp_path}/normed.py:build"
    torch.manual_seed(0)
    splits = splits_of(config(tmp_path))
    x = splits.calib.normalize(splits.calib.images)
    path = tmp_path / QAT.format(model="build")
    save_qat(
        path, prepare_qat(build_network(name).eval(), x), model=name, arguments={}, images=images_of(splits.train),
        record={},
    )  # fmt: skip
    # The start is never better, so that what was trained is what is kept.
    accuracies = iter((0.0, 1.0))
    monkeypatch.setattr(finetune, "student_accuracy", lambda *_: next(accuracies))
    monkeypatch.setattr(fit_module, "accuracy", lambda *_, **__: 1.0)
    record = finetune_triseg(config(tmp_path, model=name, epochs=1, mixup=1.0, bn_frozen=frozen), progress=False)
    norms = [
        next(
            m
            for m in read_qat(file, builder=lambda **a: build_network(name)).graph.modules()
            if isinstance(m, nn.BatchNorm2d)
        )
        for file in (path, record["file"])
    ]
    assert torch.equal(norms[0].running_var, norms[1].running_var) is frozen
    assert not torch.equal(norms[0].weight, norms[1].weight)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["pass", "saturate"])
def test_recorded_steps_on_cuda_learn_as_plain_ones_do(tmp_path, mode):
    start(tmp_path)
    plain = finetune_triseg(config(tmp_path, mode=mode, device="cuda", ema=0.0, epochs=4), progress=False)
    fast = finetune_triseg(
        config(tmp_path, mode=mode, device="cuda", ema=0.0, epochs=4, graph=True, seed=1), progress=False
    )
    for record in (plain, fast):
        assert record["history"][-1]["loss"] < record["history"][0]["loss"]
    # Other draws, the same way down.
    assert fast["history"][-1]["loss"] == pytest.approx(plain["history"][-1]["loss"], rel=0.2)


def test_the_teacher_has_its_norms_folded_and_may_be_another_network(tmp_path, monkeypatch):
    start(tmp_path)
    torch.manual_seed(1)
    x = splits_of(config(tmp_path)).calib
    x = x.normalize(x.images[:16])
    other = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 225, 10)
    ).train()
    other(x * 3)
    graph = prepare_qat(other.eval(), x)
    set_enabled(graph, False)
    guide = finetune._guide(finetune._unrounded(graph, torch.device("cpu")))
    torch.testing.assert_close(guide(x), graph(x), rtol=0, atol=1e-5)
    assert any(isinstance(m, nn.BatchNorm2d) for m in graph.modules())
    file = tmp_path / "other.safetensors"
    save_qat(
        file, prepare_qat(models.build("lenet5").eval(), x), model="lenet5", arguments={},
        images=images_of(splits_of(config(tmp_path)).train), record={},
    )  # fmt: skip
    seen = {}

    def spy(model, *_, guide, **rest):
        seen["said"] = guide(x)
        return []

    monkeypatch.setattr(finetune, "fit", spy)
    finetune_triseg(config(tmp_path, teacher=str(file)), progress=False)
    taught = read_qat(file).graph
    set_enabled(taught, False)
    torch.testing.assert_close(seen["said"], taught(x), rtol=0, atol=1e-5)


def test_hints_are_the_distance_of_the_maps_and_pull_them_together(tmp_path):
    start(tmp_path)
    tuned, plain = (read_qat(tmp_path / QAT.format(model="lenet5")).graph for _ in range(2))
    set_enabled(plain, False)
    points = [site.node for site in read_qat(tmp_path / QAT.format(model="lenet5")).sites][:2]
    hint = finetune._Hint(tuned, plain, points, 3.0)
    seen = {}
    for known, key in ((quantizers(tuned), "a"), (quantizers(plain), "b")):
        for p in points:
            known[p].register_forward_hook(lambda m, i, o, key=key, p=p: seen.__setitem__((key, p), o))
    x = splits_of(config(tmp_path)).calib
    x = x.normalize(x.images[:16])
    tuned(x)
    with torch.no_grad():
        plain(x)
    want = sum(
        float(
            ((seen["a", p][:4].detach() - seen["b", p][:4]).double() ** 2).sum()
            / (seen["b", p][:4].double() ** 2).sum()
        )
        for p in points
    )
    got = hint()
    assert float(got.detach()) == pytest.approx(3.0 / 2 * want, rel=1e-5)
    got.backward()
    assert next(tuned.parameters()).grad is not None
    hint.remove()
    tuned(x)
    assert not hint.maps[0]
    record = finetune_triseg(config(tmp_path, hint=1.0, mode="saturate", epochs=1), progress=False)
    assert record["config"]["hint"] == 1.0
    other = str(tmp_path / QAT.format(model="lenet5"))
    alone, both = (
        finetune_triseg(config(tmp_path / name, model=other, epochs=1, teacher=other, hint=hint), progress=False)
        for name, hint in (("a", 0.0), ("b", 1.0))
    )
    assert both["history"][0]["loss"] > alone["history"][0]["loss"]
    with pytest.raises(ConfigError, match="hint is -1"):
        config(tmp_path, hint=-1.0)


def test_a_checkpoint_by_its_path_is_tuned_into_the_folder_of_results(tmp_path):
    start(tmp_path / "in")
    out = tmp_path / "out"
    record = finetune_triseg(
        config(out, model=str(tmp_path / "in" / QAT.format(model="lenet5")), epochs=1), progress=False
    )
    assert Path(record["file"]) == out / "lenet5_finetuned_pass_seed0.safetensors"
    assert Path(record["result"]).is_relative_to(out)
    assert sorted(p.name for p in (tmp_path / "in").iterdir()) == ["lenet5_qat_preconvert.safetensors"]


def test_networks_are_judged_without_tf32():
    seen = []

    class Net(nn.Module):
        def forward(self, x):
            seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
            return x

    net = finetune._Tuned(Net(), in_half=False)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        net.train()(torch.ones(1))
        net.eval()(torch.ones(1))
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert seen == [(True, True), (False, False)]
