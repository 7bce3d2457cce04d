from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.nn.models.video_vit import VideoViT, load_video
from sparseflow.recipes.codesign.compare import largest_rise
from sparseflow.recipes.codesign.log import read_stats
from sparseflow.recipes.codesign.run import codesign
from sparseflow.trace import trace


def test_a_joint_run_logs_every_phase_never_rises_and_repeats_itself(tiny, tmp_path):
    first = codesign(tiny)
    lines = read_stats(first["log"])
    assert [x.phase for x in lines[:5]] == ["start", "A", "B", "C", "D"]
    assert lines[-1].phase == "end"
    assert lines[-1].top1 == first["test"]["top1"]
    assert largest_rise(first["log"]) <= 0
    again = codesign(replace(tiny, out=str(tmp_path / "again")))
    assert Path(first["log"]).read_bytes() == Path(again["log"]).read_bytes()
    model, _ = load_video(str(tiny.folder / "video.safetensors"))
    assert isinstance(model, VideoViT)


def test_fixed_chips_stay(tiny):
    body = codesign(replace(tiny, mode="multi_chip_fixed"))
    assert [d["type"] for d in body["design"]["dies"]] == ["big_core", "big_core"]
    assert {x.phase for x in read_stats(body["log"])} == {"start", "A", "C", "D", "end"}


def test_two_stages_learn_without_the_bill(tiny):
    body = codesign(replace(tiny, two_stage=True))
    lines = read_stats(body["log"])
    assert all(x.loss_hw == 0 for x in lines if x.phase == "A")
    assert min(x.epoch for x in lines if x.phase == "B") >= tiny.outer_epochs


def test_any_traced_network_gets_a_wafer(tiny, tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(576, 9))
    file = tmp_path / "w.json"
    file.write_text(trace(net, torch.zeros(1, 3, 8, 8)).to_json())
    body = codesign(replace(tiny, workload=str(file)))
    assert body["test"] is None
    assert body["figures"]["edp"] <= body["reference"]["edp"]
    assert largest_rise(body["log"]) <= 0
    with pytest.raises(DataError):
        codesign(replace(tiny, workload=str(tmp_path / "none.json")))
