"""One command for every network: what a search and a page do to one they do to all, without code for any."""

import json

import pytest
import torch

from sparseflow.compress.quantize import calibrate, prepare_qat
from sparseflow.nn import models
from sparseflow.recipes.triseg.checkpoint import build_network, save_qat
from sparseflow.recipes.triseg.evaluate import EvalConfig, evaluate
from sparseflow.recipes.triseg.report import ReportConfig, report
from sparseflow.recipes.triseg.search import SearchConfig, search
from sparseflow.recipes.triseg.teacher import QAT
from tests.triseg_teachers import IMAGES, images, splits

NETWORKS = models.names("convnets")
MINE = """
import torch
from torch import nn
from torch.nn import functional as F


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 6, 5, 2), nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3, padding=1)
        self.down, self.last = nn.Conv2d(8, 8, 3, 2, groups=2), nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], 1)
        x = F.relu(self.down(F.max_pool2d(x, 2)))
        return self.last(x.mean((2, 3)))


def build():
    return Mine()
"""


def quantised(folder, model, name):
    torch.manual_seed(0)
    narrow = {"width": 0.125} if ":" not in model and "width" in models.arguments(model) else {}
    x = (images(16).images.float() / 255 - 0.5) / 0.25
    net = build_network(model, narrow)
    for _ in range(3):
        net.train()(x)
    qat = prepare_qat(net.eval(), x[:4])
    calibrate(qat, [x])
    save_qat(folder / QAT.format(model=name), qat, model=model, arguments=narrow, images=IMAGES, record={})


@pytest.mark.parametrize("network", [*NETWORKS, "mine"])
def test_a_search_ends_with_a_result_that_can_be_measured_and_drawn(network, tmp_path):
    model, name = network, network
    if network == "mine":
        (tmp_path / "mine.py").write_text(MINE)
        model, name = f"{tmp_path / 'mine.py'}:build", "build"
    quantised(tmp_path, model, name)
    parts = splits(16)
    settings = SearchConfig(model=model, out=str(tmp_path), episodes=5, batch_size=4, top=2, halving=1)
    found = search(settings, splits=parts, progress=False)
    body = json.loads(found.path.read_text())
    assert body["model"] == name
    assert all(
        set(codes) == {f"{c}_code" for c in ("t1", "v1", "t2", "v2", "tmax")} for codes in body["layers"].values()
    )
    assert parts.test.opened == ()
    measured = evaluate(EvalConfig(model=model, out=str(tmp_path), split="val"), splits=parts)
    assert measured["acc_modified"] == pytest.approx(body["metrics"]["acc_student"])
    drawn = ReportConfig(
        config_path=str(found.path), model=model, out=str(tmp_path), images=8, counted=2, folder=str(tmp_path / "page")
    )
    page = report(drawn, splits=parts)
    assert [site["name"] for site in page["sites"]] == list(body["layers"])
    assert 2 <= page["cost"]["bits_per_activation"] < 10
    read = [r for r in page["cost"]["readers"] if r["sites"]]
    assert {name for r in read for name in r["sites"]} <= set(body["layers"])
    assert read
