"""Many networks by the same calls: one that lies there, one of a user that is trained, and one that cannot be."""

import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg.teacher import load_teacher
from sparseflow.recipes.triseg.zoo import ZooConfig, zoo
from tests.triseg_teachers import save_teacher, splits

pytest.importorskip("cmaes")

OWN = "examples/triseg_own_network.py:build"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    save_teacher(folder, steps=5)
    return folder


def config(out, **changed):
    small = {"epochs": 1, "episodes": 4, "score_images": 8, "top": 2, "exported": 3, "device": "cpu"}
    return ZooConfig(out=str(out), **(small | changed))


def test_networks_go_the_whole_way(out):
    report = out / "zoo.json"
    body = zoo(config(out, networks=("lenet5", OWN, "alexnit"), report=str(report)), progress=False)
    assert json.loads(report.read_text())["checks"] == body["checks"]
    lenet, own, none = body["rows"]
    assert (lenet["trained"], lenet["residual"], lenet["depthwise"]) == (False, False, False)
    assert (own["trained"], own["residual"], own["depthwise"]) == (True, True, True)
    assert own["sites"] == ["stem", "wide", "narrow", "depthwise", "relu", "hidden"]
    assert load_teacher(OWN, out).names == tuple(own["sites"])
    for row in (lenet, own):
        assert (row["left"], row["unequal"]) == ([], 0)
        assert row["drop"] == pytest.approx(row["acc_teacher"] - row["acc_student"])
        assert 2 <= row["bits"] < 8
    assert "alexnit" in none["error"]
    assert not body["ok"]
    failed = {check["name"].split(":")[0] for check in body["checks"] if check["value"] is None}
    assert failed == {"alexnit"}
    assert len(body["checks"]) == 9


def test_the_test_images_stay_sealed(out):
    parts = splits()
    body = zoo(config(out, networks=("lenet5",)), splits=parts, progress=False)
    assert parts.test.opened == ()
    assert body["rows"][0]["images"] == 64
    with pytest.raises(ConfigError, match="give data in place of splits"):
        zoo(config(out, networks=("lenet5",), jobs=2), splits=parts)
